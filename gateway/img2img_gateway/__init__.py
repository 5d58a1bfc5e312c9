"""The farm over HTTP: an API of its own under ``/v1``, and AUTOMATIC1111's under ``/sdapi/v1``."""
