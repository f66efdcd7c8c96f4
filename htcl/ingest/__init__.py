"""Input at the door: platforms' own names and formats mapped onto the contracts, and checked."""
