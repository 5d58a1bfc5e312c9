"""Random faults against a farm under continuous mixed load, and an account of every image at the end."""
