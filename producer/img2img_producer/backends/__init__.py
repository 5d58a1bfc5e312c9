"""Connections to a farm: direct, to its Redis and store, or through its gateway."""
