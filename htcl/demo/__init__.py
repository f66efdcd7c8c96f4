"""A small generated world: songs, texts and listeners, composed and synthesised by the package itself."""

from htcl.demo.world import WORLD_VERSION, WorldSummary, generate_world

__all__ = ["WORLD_VERSION", "WorldSummary", "generate_world"]
