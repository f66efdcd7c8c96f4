"""HTCL: song embeddings that know what a song is and who will like it.

    from htcl import PublishedSongs

    songs = PublishedSongs("workspace/demo/workspace")
    songs.search("slow sad waltz on a harp")

Importing `htcl` costs neither torch nor Spark; what is asked of it brings what it needs.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from htcl.models import HTCLModel, HTCLProcessor
    from htcl.search.query import Found, PublishedSongs

__all__ = ["Found", "HTCLModel", "HTCLProcessor", "PublishedSongs", "__version__"]
__version__ = version("htcl")

_HOMES = {
    "Found": "htcl.search.query",
    "HTCLModel": "htcl.models",
    "HTCLProcessor": "htcl.models",
    "PublishedSongs": "htcl.search.query",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'htcl' has no attribute {name!r}; it offers {', '.join(sorted(_HOMES))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
