"""Pictures laid out in one, with captions: A1111's grids. They need Pillow, and captions the font."""
