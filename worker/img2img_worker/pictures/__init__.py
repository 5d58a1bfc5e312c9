"""Pixels before and after the model: decoding, masks, resizing, filling, pasting back, infotext."""
