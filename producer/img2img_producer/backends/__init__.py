"""Ways to a farm: straight to its Redis and its store, or through its gateway."""
