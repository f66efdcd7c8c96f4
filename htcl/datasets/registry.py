"""All data sets by their names."""

from __future__ import annotations

import difflib

from htcl.datasets.dataset import DataSet
from htcl.datasets.fma import FMA
from htcl.datasets.gtzan import GTZAN
from htcl.datasets.lastfm_1k import LASTFM_1K
from htcl.datasets.lfm_2b import LFM_2B
from htcl.datasets.magnatagatune import MAGNATAGATUNE
from htcl.datasets.million_playlist import MILLION_PLAYLIST
from htcl.datasets.mtg_jamendo import MTG_JAMENDO
from htcl.datasets.music4all import MUSIC4ALL
from htcl.datasets.music4all_onion import MUSIC4ALL_ONION
from htcl.datasets.yambda import YAMBDA
from htcl.errors import HTCLError

_ALL = (
    MUSIC4ALL, MUSIC4ALL_ONION, MTG_JAMENDO, FMA, GTZAN, MAGNATAGATUNE, LASTFM_1K, MILLION_PLAYLIST, LFM_2B, YAMBDA
)  # fmt: skip

DATASETS: dict[str, DataSet] = {dataset.name: dataset for dataset in _ALL}
"""Name -> adapter."""


def find(name: str) -> DataSet:
    """The adapter of a data set.

    Raises:
        HTCLError: naming the nearest name, or all of them.
    """
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name.lower().replace("_", "-"), DATASETS, n=1)
    way_out = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(DATASETS)}"
    raise HTCLError(f"there is no data set {name!r}; {way_out}")
