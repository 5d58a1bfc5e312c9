"""A1111's scripts: those that run beside a render, and those that take it over."""
