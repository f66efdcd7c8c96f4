"""The tiny model and the songs in real shards that training is tested with."""

from tests.unit.training.conftest import processor, tiny_model, world

__all__ = ["processor", "tiny_model", "world"]
