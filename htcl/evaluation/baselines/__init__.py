"""Competitors of the models: what a team would try first, each tuned and as strong as its library makes it."""
