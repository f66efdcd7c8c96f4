"""GTZAN: 1000 clips of 30 s in ten genres; of them only those of the fault-filtered lists are mapped, and no log.

The set as it was published holds repetitions, wrong labels and distortions (Sturm 2013), so that a split at random
tells little; the lists of Kereliuk, Sturm and Larsen leave those out. Our pipeline has no column that takes a split
over: the column fault_filtered_split keeps it for who evaluates on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from htcl.datasets.dataset import DataSet, Found, LeftOut, MissingInputError, Source
from htcl.datasets.files import open_text, optional_file, require_folder
from htcl.datasets.mapping import malformed, with_audio

LISTS = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}
"""Split -> its list."""


def _audio_root(source: Source) -> Path:
    return require_folder(source.folder, "genres", "genres_original")


def _list(source: Source, name: str) -> Path:
    if path := optional_file(source.folder, name, f"gtzan/{name}"):
        return path
    raise MissingInputError(
        f"{source.folder / name} is not there; the fault-filtered lists come from Kereliuk, Sturm and Larsen 2015 "
        "(github.com/coreyker/dnn-mgr, folder gtzan); put the three, or that folder, into --from"
    )


def _read(source: Source) -> Iterator[Found]:
    root, lists = _audio_root(source), {split: _list(source, name) for split, name in LISTS.items()}
    listed = set()
    for split, path in lists.items():
        with open_text(path) as text:
            for number, line in enumerate(text, start=1):
                name = PurePosixPath(line.strip())
                if len(name.parts) != 2 or name.is_absolute():
                    if line.strip():
                        yield malformed(f"{path.name}:{number}")
                    continue
                listed.add(str(name.with_suffix("")))
                values = {"track_id": name.stem, "genre": name.parts[0], "fault_filtered_split": split}
                yield with_audio(values, root, *(str(name.with_suffix(end)) for end in (".wav", ".au")))
    there = {str(file.relative_to(root).with_suffix("")) for end in ("wav", "au") for file in root.glob(f"*/*.{end}")}
    yield LeftOut("not_in_a_fault_filtered_list", len(there - listed))


GTZAN = DataSet(
    name="gtzan",
    title="GTZAN Genre Collection, fault-filtered",
    licence="not known",
    licence_note="no licence was found",
    citation="Tzanetakis and Cook, Musical Genre Classification of Audio Signals, IEEE TSAP 2002; Sturm, The GTZAN "
    "Dataset, 2013; Kereliuk, Sturm and Larsen, Deep Learning and Music Adversaries, 2015",
    homepage="http://marsyas.info/downloads/datasets.html",
    layout=(
        "genres/<genre>/<genre>.NNNNN.wav (or .au), also genres_original/",
        f"{', '.join(LISTS.values())}, also in gtzan/: one file a line, such as blues/blues.00029.wav",
    ),
    brings=("catalog", "audio"),
    read=_read,
    audio_root=_audio_root,
    text_fields=("genre",),
    extra_columns=("fault_filtered_split",),
    notes=(
        "the column fault_filtered_split holds the split of the fault-filtered lists; the pipeline makes its own",
        "the widespread copy of jazz.00054.wav, which the lists hold, cannot be decoded",
        "a track has no title: its id stands there",
    ),
)
"""The adapter."""
