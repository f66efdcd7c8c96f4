"""WebDataset shards of log-mels, an index into them, and random access by it."""
