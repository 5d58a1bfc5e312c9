"""Checkpoints: finding, reading and building them."""
