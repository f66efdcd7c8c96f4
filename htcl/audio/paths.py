"""Where a catalog's `audio_path` lies, and that it stays under the audio root."""

from pathlib import Path, PurePosixPath

from htcl.audio.rejects import AudioRejected, RejectReason


def resolve_audio_path(audio_root: str, audio_path: str) -> str:
    """Join `audio_path` to `audio_root` and refuse whatever would leave the root.

    Args:
        audio_root: a local folder, a `file://` URI or any fsspec URI such as `s3://bucket/songs`.
        audio_path: relative path with forward slashes, as written in the catalog.

    Returns:
        A local path (symbolic links resolved), or a URI for a root that is not local. The file need not
        exist.

    Raises:
        AudioRejected: `path_traversal` for absolute paths and URIs, `..`, null bytes, backslashes, an empty
            path, and, on local disks, symbolic links that lead out of the root; `unreadable` for links that
            lead to themselves.
    """
    parts = PurePosixPath(audio_path).parts
    forbidden = audio_path.startswith("/") or ".." in parts or any(mark in audio_path for mark in "\0\\")
    if not parts or forbidden or "://" in audio_path:
        raise AudioRejected(
            RejectReason.PATH_TRAVERSAL,
            f"audio_path {audio_path!r} is not a plain relative path; write it relative to the audio root",
        )
    root_uri = audio_root.removeprefix("file://")
    if "://" in root_uri:
        return f"{root_uri.rstrip('/')}/{'/'.join(parts)}"
    root = Path(root_uri).resolve()
    try:
        path = (root / audio_path).resolve()
    except (OSError, RuntimeError) as error:
        raise AudioRejected(RejectReason.UNREADABLE, f"audio_path {audio_path!r} cannot be followed: {error}") from None
    if not path.is_relative_to(root):
        raise AudioRejected(
            RejectReason.PATH_TRAVERSAL,
            f"audio_path {audio_path!r} leads to {path}, outside the audio root {root}",
        )
    return str(path)
