"""Benchmarks; see README.md."""

import os

# print only tables: no progress of loading, and no advice about pipelines that are only measured
for _name, _value in {
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}.items():
    os.environ.setdefault(_name, _value)
