"""Positive events to pair counts: pure kernels over arrays, run by the Spark job."""
