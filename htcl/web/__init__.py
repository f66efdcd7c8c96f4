"""Look and map of the catalog, for the report, which takes them in, and for `htcl explore`, which serves them.

`look.css` has the colours and the type, `map.js` and `map.css` the map; the head of `map.js` says how to use it.
"""

from importlib import resources


def web_file(name: str) -> str:
    """The text of one of these files."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
