"""HTCL: song embeddings that know what a song is and who will like it.

Importing `htcl` costs neither torch nor Spark; its sub-packages bring what they need.
"""

from importlib.metadata import version

__version__ = version("htcl")
