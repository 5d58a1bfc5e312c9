"""LoRA and its relatives: reading files, and applying them to a network."""
