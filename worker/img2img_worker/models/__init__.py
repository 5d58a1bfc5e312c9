"""Finds, loads and runs checkpoints and all other models."""
