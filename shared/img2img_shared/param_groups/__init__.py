"""The parameters of a render, declared once, in the groups that A1111's users know.

Each field has a type, range, default, description and example; the command line, the OpenAPI document and
docs/parameters.md are generated from them.
"""
