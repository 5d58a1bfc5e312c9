"""What another service installs: the distribution without extras, which must stay light."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SUBMIT = """
import importlib.util, sys
from img2img_producer import Farm

for heavy in ("torch", "diffusers", "transformers", "numpy", "PIL", "cv2"):
    assert importlib.util.find_spec(heavy) is None, f"{heavy} came with the light install"
with Farm(redis_url=sys.argv[1], store_url=sys.argv[2]) as farm:
    job = farm.submit([open(sys.argv[3], "rb").read()], model="some-model", steps=3, denoising_strength=0.5)
    status = farm.status(job)
    print(job, status.n, status.pending)
"""


@pytest.mark.timeout(600)
def test_a_service_submits_a_job_from_an_install_without_extras(tmp_path: Path, redis_url: str) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    pinned = ["-c", str(ROOT / "constraints.txt"), str(ROOT)]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned]
    subprocess.run(install, check=True, cwd=tmp_path)
    picture = next((ROOT / "samples").glob("*.png"))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    done = subprocess.run(
        [python, "-c", SUBMIT, redis_url, tmp_path / "store", picture],
        check=True,
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
    )

    job, total, pending = done.stdout.split()
    assert (total, pending) == ("1", "1")
    assert len(job) >= 16
