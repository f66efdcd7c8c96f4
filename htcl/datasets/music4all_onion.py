"""Music4All-Onion: a larger log over the songs of Music4All, and tags by weight; audio and names are Music4All's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from htcl.datasets import music4all
from htcl.datasets.dataset import Found, Missing, Rejected, Source
from htcl.datasets.files import optional_file, require_file, tab_lines
from htcl.datasets.logs import events
from htcl.datasets.tab_log import read_tab_log

LOG = "userid_trackid_timestamp.tsv.bz2"
TAGS = "id_tags_dict.tsv.bz2"


def _read(source: Source) -> Iterator[Found]:
    log = require_file(source.folder, LOG)
    tags: dict[str, list[str]] = {}
    if path := optional_file(source.folder, TAGS):
        yield from _weighted_tags(path, tags)
    else:
        yield Missing(f"{TAGS} is not there: tags are those of id_tags.csv")
    yield from music4all.catalog(source, tags)
    for batch in read_tab_log(log, {name: name for name in ("user_id", "track_id")} | {"ts": "timestamp"}):
        yield from events(batch, "listen")


def _weighted_tags(path: Path, tags: dict[str, list[str]]) -> Iterator[Rejected]:
    """Fill `tags` with those of each song, heaviest first; yield lines that hold no dictionary."""
    lines = tab_lines(path)
    next(lines, None)  # the header
    for place, cells in lines:
        try:
            weights = ast.literal_eval(cells[1])
            tags[cells[0]] = [str(tag) for tag, _ in sorted(weights.items(), key=lambda item: -float(item[1]))]
        except (AttributeError, IndexError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
            yield Rejected("catalog", place, "bad_tags", "the second column is no dictionary of tags and weights")


MUSIC4ALL_ONION = replace(
    music4all.MUSIC4ALL,
    name="music4all-onion",
    title="Music4All-Onion",
    licence="CC BY 4.0 (Music4All-Onion); catalog and audio: Music4All's agreement",
    citation="Moscati et al., Music4All-Onion: A Large-Scale Multi-faceted Content-Centric Music Recommendation "
    f"Dataset, CIKM 2022, pp. 4339-4343; and {music4all.MUSIC4ALL.citation}",
    homepage="https://zenodo.org/records/15394646 (before: 6609677)",
    layout=(
        *music4all.CATALOG_LAYOUT,
        f"{LOG}: tab-separated, header user_id track_id timestamp, such as 2013-01-27 21:42:38",
        f"{TAGS}: tab-separated, id and a dictionary of tags and weights; may be missing",
    ),
    read=_read,
    notes=(*music4all.MUSIC4ALL.notes, "--from is one folder with the files of both Music4All and Music4All-Onion"),
)
"""The adapter."""
