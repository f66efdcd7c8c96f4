"""The exceptions that end a run with a sentence instead of a traceback."""


class HTCLError(Exception):
    """A failure that its reader can mend: the message names the thing and the way out."""


class PassingError(HTCLError):
    """A failure that may be gone at another try: a host, a process or a storage that was lost."""


class OvertakenError(HTCLError):
    """Somebody else has changed meanwhile what this was worked out from."""


def sentence_of(error: BaseException) -> HTCLError | None:
    """An error that its reader can mend, as one: an HTCLError itself, or that of a full or read-only disk.

    Each library has a class of its own for the latter; all of them carry the words of the operating system.
    """
    if isinstance(error, HTCLError):
        return error
    text = str(error)
    for words, way_out in _DISK.items():
        if words in text:
            where = getattr(error, "filename", None) or "the workspace or the folder for temporary files (TMPDIR)"
            return PassingError(f"{where}: {words}; {way_out}")
    return None


_DISK = {
    "No space left on device": "make room (`htcl gc CONFIG` deletes what nobody needs), then run again",
    "Disk quota exceeded": "make room (`htcl gc CONFIG` deletes what nobody needs), then run again",
    "Read-only file system": "make it writable, then run again",
}


class Interrupted(Exception):  # noqa: N818  (no error)
    """The run was asked to end; what is done is in a checkpoint, and it goes on when it is started again."""
