"""Songs to rows of the embeddings table: the model, the work that is left, and what its tasks do."""
