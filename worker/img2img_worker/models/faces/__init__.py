"""Faces: found in a picture, restored by a network, and put back."""
