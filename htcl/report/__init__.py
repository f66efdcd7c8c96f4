"""The HTML report: one file that shows what a run did and how good its embeddings are."""
