"""The in-flight batch: images join it and leave it between two model calls."""
