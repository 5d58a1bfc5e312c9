"""What a worker's start imports, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import cached, sd1

#: each takes a good part of a second, and no worker needs one until an image or a checkpoint asks for it
_TORCH = ("torch._dynamo", "torch.distributed.tensor", "sympy")
UNUSED = (*_TORCH, "transformers", "scipy", "spandrel", "torchsde")

#: what may be installed beside, that diffusers would import and that wants the compiler
BESIDE = ("accelerate", "torchao", "torchvision")

START = """
import sys
from img2img_worker.farm.lean_import import import_diffusers
beside = sys.argv.pop()
sys.path.insert(0, beside)
import_diffusers(compiles=False)
sys.path.remove(beside)
import img2img_worker.farm.worker
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.steps import run_now
family = open_checkpoint(sys.argv[1])
run_now(family.encode_prompts(["a cat"]))
print(*(name for name in sys.argv[2:] if name in sys.modules))

# and all of it is there for whoever needs it
import scipy.special
import torch
from transformers import CLIPTextModel
from diffusers import ControlNetModel
assert torch.compiler.disable(family.encode_prompts) is not family.encode_prompts
"""


def test_a_start_imports_nothing_that_waits_for_its_first_use(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint: Path = cached(tmp_path_factory, sd1)
    for name in BESIDE:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import torch._dynamo.utils")
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0")
    command = [sys.executable, "-c", START, str(checkpoint), *UNUSED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
