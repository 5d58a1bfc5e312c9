"""The farm as clients use it: client, command line and gateway are built on the same service."""
