"""The farm in a folder: a Redis and workers of one's own, shared by the programs that use it."""
