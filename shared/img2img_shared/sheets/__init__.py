"""A1111's grids: pictures laid out in one, with captions. They need Pillow, and for captions its font."""
