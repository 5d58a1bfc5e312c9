"""Reading A1111's prompts, and encoding their texts."""
