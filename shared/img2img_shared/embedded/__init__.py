"""The embedded farm: a Redis and workers in a folder, shared by the programs of one machine."""
