"""Who renders: tickets, pictures, the engine, samplers and models."""
