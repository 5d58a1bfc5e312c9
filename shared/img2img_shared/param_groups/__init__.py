"""The parameters of a render, declared once, by the groups that A1111's users know.

A field has its type, range, default, description and an example here; the command line, the OpenAPI
document and docs/parameters.md are made from that.
"""
