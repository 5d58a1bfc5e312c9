"""A worker process: tickets, claims, leases, and the recipe of each image."""
