"""Control pictures: what preprocessors make of a picture, and how that is fitted to a render."""
