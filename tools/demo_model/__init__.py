"""Makes the checkpoint `demo`: a drawn world, its captions, training, export and a report of measurements."""
