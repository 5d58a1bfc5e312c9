"""The networks for edges and lines, with seeded weights, in published or narrower sizes."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from img2img_worker.models.control.anime_lines import AnimeLines
from img2img_worker.models.control.drawing_networks import LineDrawing, SoftEdges
from img2img_worker.models.control.line_segments import LineSegments
from img2img_worker.models.control.pixel_differences import PixelDifferences
from img2img_worker.models.control.surface_normals import SurfaceNormals

#: channels and convolutions of the edges' levels; channels and residual blocks of the lines'
EDGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
LINES = (64, 3)
#: channels of the soft edges by pixel differences; and of the anime lines' levels, out of 16 times as many
DIFFERENCES, ANIME = (60, 24, 4), (4, 8, 16, *[32] * 5)


def seeded(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights that depend on names and shapes only, so that A1111's extension can be given the same."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, like in sorted(network.state_dict().items()):
        fan_in = like[0].numel() if like.ndim > 2 and "norm" not in name else 100
        scale = 0.01 if "projection" in name else 1.0
        value = scale * torch.randn(like.shape, generator=generator) * (2 / fan_in) ** 0.5
        is_scale = like.ndim == 1 and name.endswith(("weight", "running_var"))
        found[name] = (1 + value.abs() if is_scale else value).to(like.dtype)
    return found


def write(network: nn.Module, seed: int, path: Path, before: str = "") -> None:
    """Write a network's weights as a file, with a prefix before their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({before + name: value for name, value in seeded(network, seed).items()}, path)


def write_normals(path: Path) -> None:
    """The network of normals, named as in its published file, in the sizes that the extension was given."""
    shapes = json.loads((Path(__file__).parent / "a1111" / "normal_bae_shapes.json").read_text())
    with torch.device("meta"):
        network = SurfaceNormals({name: torch.empty(shape) for name, shape in shapes.items()})
    torch.save({"model": seeded(network, 26)}, path)


def write_all(models: Path) -> None:
    """The weights that A1111's extension had when it made `control_drawings.npz`."""
    folder = models / "annotators"
    write(SoftEdges(EDGES), 13, folder / "ControlNetHED.safetensors")
    write(LineDrawing(*LINES), 2, folder / "sk_model.safetensors")
    write(LineDrawing(*LINES), 3, folder / "lineart" / "sk_model2.safetensors")
    write(PixelDifferences(*DIFFERENCES), 21, folder / "table5_pidinet.safetensors", before="module.")
    write(AnimeLines(ANIME), 22, folder / "netG.safetensors")
    write_normals(folder / "scannet.pt")
    write(LineSegments(), 23, folder / "mlsd_large_512_fp32.safetensors")
