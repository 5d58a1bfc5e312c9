"""The training set of the denoiser: latents of all pictures, and captions as token ids."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from tools.demo_model import captions, tokens, training, vae
from tools.demo_model.analysis import Analysis
from tools.demo_model.dataset import LOOKS, scenes_of, shard_paths, views_of_shard
from tools.demo_model.places import lay_out

#: captions written for each picture
PHRASINGS = 3


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Views × looks of latents, each view and its mirror image, and the captions of each."""

    #: float32 [V, LOOKS, CHANNELS, 16, 16]
    latents: Tensor
    #: int64 [V, LOOKS, PHRASINGS, 77]
    tokens: Tensor

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `build` wrote."""
        state = torch.load(path, weights_only=True)
        return cls(latents=state["latents"].float(), tokens=state["tokens"].long())


def build(data: Path, vae_state: Path, path: Path) -> None:
    """Encode all shards of `data` that are ready, write latents and captions to `path`."""
    state = training.restore(vae_state)
    if state is None:
        raise FileNotFoundError(vae_state)
    analysis = Analysis.from_state(state["analysis"])
    folder = path.parent / "tokenizer"
    tokens.write_tokenizer(folder, captions.words())
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    encoded, written = [], []
    for shard_path in shard_paths(data):
        shard = int(shard_path.stem.rpartition("-")[2])
        pictures: NDArray[np.uint8] = np.load(shard_path, mmap_mode="r")
        tensor, lines = vae.to_tensor(np.array(pictures)), _captions(tokenizer, views_of_shard(shard))
        for seen in (tensor, tensor.flip(3)):  # no caption mentions left or right
            encoded.append(analysis.latents(seen).half())
            written.append(lines)
        print(shard_path.name, flush=True)
    flat = torch.cat(encoded)
    partial = path.with_suffix(".partial")
    latents = flat.view(-1, LOOKS, *flat.shape[1:])
    torch.save({"latents": latents, "tokens": torch.cat(written).short()}, partial)
    partial.replace(path)


def _captions(tokenizer: CLIPTokenizer, views: range) -> Tensor:
    lines = []
    for view in views:
        for look, scene in enumerate(scenes_of(view)):
            kinds = lay_out(scene.place, scene.layout, 1.0).kinds()
            rng = np.random.default_rng((11, view, look))
            lines += [captions.caption(scene, kinds, rng) for _ in range(PHRASINGS)]
    ids = tokenizer(
        lines, padding="max_length", truncation=True, max_length=tokens.MAX_LENGTH, return_tensors="pt"
    )
    return torch.as_tensor(ids.input_ids).view(len(views), LOOKS, PHRASINGS, tokens.MAX_LENGTH)


def main() -> None:
    parser = argparse.ArgumentParser(description="Encode the training pictures of the checkpoint `demo`.")
    parser.add_argument("data", type=Path, help="folder of shards")
    parser.add_argument("vae", type=Path, help="training state of the autoencoder")
    parser.add_argument("out", type=Path, help="file to write, a tokenizer folder beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    build(options.data, options.vae, options.out)


if __name__ == "__main__":
    main()
