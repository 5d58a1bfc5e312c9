"""Pushed models: files of weights in the farm's store, under the SHA-256 of their bytes."""
