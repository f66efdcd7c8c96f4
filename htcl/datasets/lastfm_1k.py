"""Last.fm-1K: the listening of nearly 1000 users until May 2009, with names; no audio.

Many songs have no MusicBrainz id: a hash of artist and title stands in its place, so that two spellings are two songs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htcl.datasets.dataset import DataSet, Found, Source, Track
from htcl.datasets.files import require_file
from htcl.datasets.logs import events
from htcl.datasets.mapping import stable_id
from htcl.datasets.tab_log import read_tab_log

LOG = "userid-timestamp-artid-artname-traid-traname.tsv"
_NAMES = ("user_id", "ts", "artist_id", "artist", "recording", "title")
_READ = {name: name for name in _NAMES if name != "artist_id"}
_BETWEEN = "\x1f"


def _read(source: Source) -> Iterator[Found]:
    seen: set[str] = set()
    for batch in read_tab_log(require_file(source.folder, LOG), _READ, _NAMES):
        rows = batch.rows.append_column("track_id", _track_ids(batch.rows.combine_chunks()))
        yield from events(replace(batch, rows=rows), "listen")
        yield from _new_tracks(rows, seen)


def _track_ids(rows: pa.Table) -> pa.ChunkedArray:
    """The recording's MusicBrainz id, else a hash of its names; null where there is no title."""
    names = pc.binary_join_element_wise(pc.fill_null(rows["artist"], ""), rows["title"], _BETWEEN)
    unknown = pc.if_else(pc.is_null(rows["recording"]), names, pa.scalar(None, pa.string())).combine_chunks()
    words = unknown.dictionary_encode()
    hashes = pa.array([stable_id(*word.split(_BETWEEN)) for word in words.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([pc.coalesce(rows["recording"].combine_chunks(), hashes.take(words.indices))])


def _new_tracks(rows: pa.Table, seen: set[str]) -> Iterator[Track]:
    """Tracks that no batch before has named, with the names of their first row."""
    rows = rows.filter(pc.is_valid(rows["track_id"])).select(["track_id", "title", "artist"]).combine_chunks()
    codes = np.asarray(rows["track_id"].combine_chunks().dictionary_encode().indices)
    for values in rows.take(np.unique(codes, return_index=True)[1]).to_pylist():
        if values["track_id"] not in seen:
            seen.add(values["track_id"])
            yield Track(values)


LASTFM_1K = DataSet(
    name="lastfm-1k",
    title="Last.fm Dataset - 1K users",
    licence="non-commercial use, with permission of Last.fm",
    citation="Last.fm (last.fm), which has to be named; Celma, Music Recommendation and Discovery in the Long Tail, "
    "Springer 2010",
    homepage="http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html",
    layout=(f"{LOG}: tab-separated, no header, 6 columns, times such as 2009-05-04T23:08:57Z",),
    brings=("catalog", "log"),
    read=_read,
    text_fields=("title", "artist"),
    positive={"listen": {}},
    tracks_from_log=True,
    check_repeats=False,  # each is told once
    notes=("songs without a MusicBrainz id have a hash of artist and title",),
)
"""The adapter."""
