"""Training: losses, stages and the loop that runs them."""

METRICS_FILE = "metrics.jsonl"
"""The training log beside the weights of a model, one JSON object a line."""
