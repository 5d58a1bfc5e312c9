"""A1111's scripts: those that a request has run beside its render, and those that run it themselves."""
