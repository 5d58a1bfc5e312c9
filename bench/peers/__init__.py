"""The same checkpoint and requests through this farm, and through others' programs."""
