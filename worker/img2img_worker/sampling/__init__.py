"""Samplers as in their papers, their schedules and noise, compiled to plans."""
