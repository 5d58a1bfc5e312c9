"""Requests and the pictures that A1111 1.10.1 itself gave for them, from a checkpoint that the tests build.

To render them anew, put what ``python -m tests.acceptance.a1111_references FILE.safetensors`` writes into an
A1111's folder of checkpoints, start that with ``--api --use-cpu all --no-half --precision full`` and its
options' defaults but ``randn_source`` CPU, and run ``python -m tests.acceptance.a1111_references URL``.
"""

import base64
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import checkpoints
from tests.original import write_original

FOLDER = Path(__file__).parent / "a1111"
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "requests.json").read_text(encoding="utf-8"))
#: the checkpoint's name in A1111
MODEL = "seeded"


def request(name: str) -> dict[str, Any]:
    """The body of a request, pictures and all."""
    body = dict(CASES[name]["request"])
    body["init_images"] = [_encoded(_picture(*size)) for size in body.pop("pictures")]
    if "mask" in body:
        body["mask"] = _encoded(_mask(*body["mask"]))
    return body


def expected(name: str) -> NDArray[Any]:
    """A1111's picture, RGB."""
    return np.asarray(Image.open(FOLDER / f"{name}.png").convert("RGB"))


def checkpoint(path: Path) -> Path:
    """The checkpoint as a file for A1111; its VAE has no variance, since A1111 draws a sample."""
    with tempfile.TemporaryDirectory() as folder:
        write_original(checkpoints.sd1_published(Path(folder) / MODEL), path)
    tensors = load_file(path)
    # the second half of the outputs is the logarithm of the variance
    tensors["first_stage_model.quant_conv.weight"][4:] = 0
    tensors["first_stage_model.quant_conv.bias"][4:] = -30
    save_file(tensors, path)
    return path


def _picture(width: int, height: int) -> Image.Image:
    """Waves and an edge."""
    y, x = np.mgrid[:height, :width]
    waves = [(x * 7 + y * 3) % 256, (x * x // 9 + y * 5) % 256, (255 - x * 2 + y * y // 7) % 256]
    pixels = np.stack(waves, axis=-1).astype(np.uint8)
    pixels[height // 4 : height // 2, width // 3 :] = (200, 40, 90)
    return Image.fromarray(pixels)


def _mask(width: int, height: int, kind: str) -> Image.Image:
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : -height // 4, width // 3 : -width // 5] = 255
    if kind == "gradient":
        pixels = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    return Image.fromarray(pixels)


def _encoded(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def _render(url: str) -> None:
    """Have A1111 render all requests, and keep the pictures."""
    for name, case in CASES.items():
        body = request(name)
        body["override_settings"] = {**body.get("override_settings", {}), "sd_model_checkpoint": MODEL}
        told = httpx.post(f"{url}/sdapi/v1/img2img", json=body, timeout=600).raise_for_status().json()
        picture = Image.open(io.BytesIO(base64.b64decode(told["images"][0])))
        Image.fromarray(np.asarray(picture)).save(FOLDER / f"{name}.png", optimize=True)  # without its text
        case["infotext"] = json.loads(told["info"])["infotexts"][0]
    text = json.dumps(CASES, indent=1, ensure_ascii=False)
    (FOLDER / "requests.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    (wanted,) = sys.argv[1:]
    if wanted.startswith("http"):
        _render(wanted)
    else:
        checkpoint(Path(wanted))
