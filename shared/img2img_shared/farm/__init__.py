"""The farm as whoever submits works with it: client, command line and gateway stand over the same service."""
