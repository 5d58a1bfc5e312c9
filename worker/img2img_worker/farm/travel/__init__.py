"""Models that were pushed into the farm's store, on their way to this machine."""
