"""Fetches models that were pushed into the farm's store."""
