"""Positive events to pair counts: pure kernels over arrays, run by the Spark job."""

PAIRS_FOLDER = "pairs"
KNOWN_FOLDER = "known"
POPULARITY_FOLDER = "popularity"
QUALITY_FOLDER = "quality"
"""Parquet folders of a pairs artifact: the snapshot; every pair of its training part, before top-K, once with
anchor_id < positive_id; baskets per training song in that part; and what each day of the log held."""
