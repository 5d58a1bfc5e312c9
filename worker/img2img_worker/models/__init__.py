"""Checkpoints: how they are found, loaded and asked."""
