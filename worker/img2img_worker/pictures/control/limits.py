"""Limits on the cost of control pictures."""

#: most pixels of one on its way; some of what is done to them takes sixteen bytes for each of their values
LARGEST = 1 << 25
