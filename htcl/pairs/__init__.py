"""Positive events to pair counts: pure kernels over arrays, run by the Spark job."""

PAIRS_FOLDER = "pairs"
POPULARITY_FOLDER = "popularity"
"""Parquet folders of a pairs artifact: the snapshot, and baskets per song in its training part."""
