"""LFM-2b: two billion listening events of Last.fm users, with names; no audio.

The data set can no longer be downloaded. This layout is that of published programs that read its files, for who has a
copy: columns are found by their names in the header. Quotes in the names of tracks are part of the names.
"""

from __future__ import annotations

from collections.abc import Iterator

from htcl.datasets.dataset import DataSet, Found, Source, Track
from htcl.datasets.files import require_file, tab_rows
from htcl.datasets.logs import events
from htcl.datasets.mapping import malformed
from htcl.datasets.tab_log import read_tab_log

LOG = "listening-events.tsv.bz2"
TRACKS = "tracks.tsv.bz2"


def _read(source: Source) -> Iterator[Found]:
    log, tracks = require_file(source.folder, LOG), require_file(source.folder, TRACKS)
    for place, row in tab_rows(tracks, ("track_id", "artist_name", "track_name"), quotes=False):
        if row is None:
            yield malformed(place)
        else:
            yield Track({"track_id": row["track_id"], "title": row["track_name"], "artist": row["artist_name"]})
    for batch in read_tab_log(log, {name: name for name in ("user_id", "track_id")} | {"ts": "timestamp"}):
        yield from events(batch, "listen")


LFM_2B = DataSet(
    name="lfm-2b",
    title="LFM-2b",
    licence="not known: because of licences the data set is no longer offered for download",
    licence_note="no licence text was seen",
    citation="Schedl et al., LFM-2b: A Dataset of Enriched Music Listening Events for Recommender Systems Research and "
    "Fairness Analysis, CHIIR 2022",
    homepage="http://www.cp.jku.at/datasets/LFM-2b/",
    layout=(
        f"{LOG}: tab-separated, header with user_id track_id timestamp",
        f"{TRACKS}: tab-separated, header with track_id artist_name track_name",
    ),
    brings=("catalog", "log"),
    read=_read,
    text_fields=("title", "artist"),
    positive={"listen": {}},
    check_repeats=False,
    notes=(
        "the layout is that of programs that read the files, not of the files: compare a few rows with yours",
        "times of the log name no zone and are taken as UTC",
        "track ids are not checked for repetitions, which the catalog step of the pipeline does",
    ),
)
"""The adapter."""
