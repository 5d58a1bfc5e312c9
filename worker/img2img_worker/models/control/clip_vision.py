"""The CLIP image encoders of IP-Adapters: files on this machine, run by transformers."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from img2img_shared.control_modules import CLIP_SIDE, ClipKind
from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_worker.models.checkpoints.infer_config import count
from img2img_worker.models.checkpoints.weights import assemble, read_component, read_json, read_weights
from img2img_worker.models.kind_folders import kind_folders
from img2img_worker.models.transfer import to_device

#: where they are in a folder of models, as in ComfyUI's, and where A1111's extension puts its downloads
FOLDER = "clip_vision"
OF_EXTENSION = Path("extensions/sd-webui-controlnet/annotator/downloads/clip_vision")
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
#: parts of their files' names, in lower case: as the extension calls them, and as those who trained them do
_CALLED: dict[ClipKind, tuple[str, ...]] = {"clip_h": ("clip_h", "vit-h"), "clip_g": ("clip_g", "bigg")}
_PUBLISHED: dict[ClipKind, str] = {"clip_h": "CLIP ViT-H/14", "clip_g": "CLIP ViT-bigG/14"}
#: attention heads of every published model, which no tensor tells; the width of OpenAI's, the smallest, which
#: has an activation of its own
_HEADS, _QUICK = 16, 1024
#: the tensors of a whole CLIP's file that belong to its text encoder
_OF_TEXTS = ("text_model.", "text_projection.", "logit_scale")
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class Seen(NamedTuple):
    """CLIP's output for one picture."""

    #: [1, d]: its embedding in the space shared with texts
    embedding: Tensor
    #: [1, n, width]: the tokens of the class and of each patch, before the last layer
    patches: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipVision:
    """A loaded image encoder. Not thread-safe: only the engine's thread calls its methods."""

    #: a name that no other network has
    key: str
    name: str
    #: transformers' CLIPVisionModelWithProjection
    model: Any

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers()))

    @property
    def embedding_size(self) -> int:
        return int(self.model.config.projection_dim)

    @property
    def width(self) -> int:
        """Dimensions of a patch's token."""
        return int(self.model.config.hidden_size)

    def see(self, picture: Tensor) -> Seen:
        """
        Args:
            picture: on the CPU, uint8 [side, side, 3], or [side, side, 4] with 255 where it is hidden.
        """
        values = to_device(picture, self.model.device).permute(2, 0, 1).float() / 255
        numbers = to_device(torch.tensor([_MEAN, _DEVIATION]), self.model.device)
        mean, deviation = numbers[:, :, None, None]
        shown = (values[:3] - mean) / deviation
        return self._run(shown * (1 - values[3:]) if len(values) == 4 else shown)

    def see_nothing(self) -> Seen:
        """The output for a picture that is everywhere CLIP's mean colour."""
        return self._run(torch.zeros(3, CLIP_SIDE, CLIP_SIDE, device=self.model.device))

    @torch.inference_mode()
    def _run(self, values: Tensor) -> Seen:
        found = self.model(values[None].to(self.model.dtype), output_hidden_states=True)
        return Seen(found.image_embeds, found.hidden_states[-2])


def find_file(kind: ClipKind, folders: tuple[Path, ...]) -> Path:
    """The file of a CLIP model, or its folder in transformers' layout.

    Raises:
        Refused: there is none; says where to put it.
    """
    found: list[Path] = []
    for folder in folders:
        files = [path for path in files_below(folder, ENDINGS) if not _is_component(path.parent)]
        components = sorted(
            path.parent for path in files_below(folder, (".json",)) if path.name == "config.json"
        )
        found += [*sorted(files), *components]
    for called in _CALLED[kind]:
        for path in found:
            if called in path.name.lower():
                return path
    where = (
        f"{FOLDER}/{kind}.safetensors" if folders else f"{FOLDER}/{kind}.safetensors in IMG2IMG_MODELS_DIR"
    )
    reason = f"its image encoder, {_PUBLISHED[kind]}, is missing: put it at {where}"
    raise Refused("control.module", kind, reason)


def clip_folders(models_dir: Path | None) -> tuple[Path, ...]:
    """Where image encoders are looked for, given a folder of models."""
    return kind_folders(models_dir, FOLDER, OF_EXTENSION)


def read_clip_vision(
    path: Path, key: str, *, device: torch.device, dtype: torch.dtype, allow_pickles: bool
) -> ClipVision:
    """The model in a file, or in a folder in transformers' layout.

    Raises:
        Refused: it is no CLIP image encoder for pictures of `CLIP_SIDE` pixels, or broken.
    """
    if path.is_dir():
        config = read_json(path / "config.json")
        config = config.get("vision_config", config)
        weights = read_component(path, allow_pickles=allow_pickles)
    else:
        config, weights = {}, read_weights(path, allow_pickles=allow_pickles)
    weights = {name: each for name, each in weights.items() if not name.startswith(_OF_TEXTS)}
    config = config or _infer_config(weights, path)
    if config.get("image_size", CLIP_SIDE) != CLIP_SIDE:
        reason = f"it takes pictures of {config['image_size']} pixels; use a model for {CLIP_SIDE}"
        raise Refused("control.module", path.name, reason)
    model: nn.Module = assemble(partial(_make, config), weights, device=device, dtype=dtype, source=path.name)
    return ClipVision(key=key, name=path.name, model=model)


def _make(config: dict[str, Any]) -> nn.Module:
    # imported here: it takes a second, and only IP-Adapters need it
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    model: nn.Module = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config))
    return model


def _infer_config(weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """The configuration of a file that has none beside it, from its shapes."""
    prefix = "vision_model."
    try:
        patch = weights[f"{prefix}embeddings.patch_embedding.weight"]
        positions = weights[f"{prefix}embeddings.position_embedding.weight"]
        inner = weights[f"{prefix}encoder.layers.0.mlp.fc1.weight"]
        projection = weights["visual_projection.weight"]
    except KeyError as error:
        reason = f"it lacks {error}; use the image encoder of a CLIP in transformers' layout"
        raise Refused("control.module", path.name, reason) from None
    return {
        "hidden_size": len(patch),
        "intermediate_size": len(inner),
        "num_hidden_layers": count(weights, f"{prefix}encoder.layers.{{}}."),
        "num_attention_heads": _HEADS,
        "patch_size": patch.shape[-1],
        "image_size": math.isqrt(len(positions) - 1) * patch.shape[-1],
        "projection_dim": len(projection),
        "hidden_act": "quick_gelu" if len(patch) == _QUICK else "gelu",
    }


def _is_component(folder: Path) -> bool:
    return (folder / "config.json").is_file()
