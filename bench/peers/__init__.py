"""Compares this farm with other programs, on the same checkpoint and requests."""
