"""Limits on the cost of control pictures."""

#: most pixels of a control picture while it is prepared, which may take 16 bytes for each of its values
LARGEST = 1 << 25
