"""ControlNet and its relatives: reading files, and running networks for the rows that use them."""
