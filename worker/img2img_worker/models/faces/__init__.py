"""Finds the faces of a picture, restores them with a network, and puts them back."""
