"""Kernels for a GPU, run by Triton's interpreter: wherever Triton is, which a torch for CUDA brings."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

KERNELS = Path(__file__).parents[1] / "device" / "test_kernels.py"

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton here")


@pytest.mark.timeout(900)  # 20 s, and many times that beside others
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU runs them itself")
def test_interpreted_kernels_answer_as_torchs_layers_do() -> None:
    # in a process of its own: Triton decides at its import
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(KERNELS)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
