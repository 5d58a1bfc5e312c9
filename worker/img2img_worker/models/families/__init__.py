"""Model families: how each encodes, predicts and decodes."""
