"""The training pictures, drawn into shards that can be read while later ones are still being drawn."""

import argparse
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.demo_model.labels import Scene, random_look, random_view
from tools.demo_model.scenes import draw

SIZE = 128
#: looks that are drawn of each view: the same layout with another hour, season, weather and style
LOOKS = 3
VIEWS_A_SHARD = 200
#: views from here on are never trained on
FIRST_UNSEEN = 1_000_000


def scenes_of(view: int, looks: int = LOOKS) -> list[Scene]:
    """The scenes of a view, which depend on its number only."""
    rng = np.random.default_rng((7, view))
    place, layout = random_view(rng)
    return [Scene(place=place, layout=layout, **random_look(rng)) for _ in range(looks)]


def views_of_shard(shard: int) -> range:
    """The numbers of the views in a shard."""
    return range(shard * VIEWS_A_SHARD, (shard + 1) * VIEWS_A_SHARD)


def shard_paths(folder: Path) -> list[Path]:
    """The shards that are ready, in order. Each is uint8 [VIEWS_A_SHARD * LOOKS, SIZE, SIZE, 3]."""
    return sorted(folder.glob("shard-???.npy"))


def _draw_shard(job: tuple[Path, int]) -> None:
    folder, shard = job
    path = folder / f"shard-{shard:03d}.npy"
    if path.exists():
        return
    cv2.setNumThreads(1)
    pictures: list[NDArray[np.uint8]] = [
        np.asarray(draw(scene, SIZE, SIZE)) for view in views_of_shard(shard) for scene in scenes_of(view)
    ]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, np.stack(pictures))
    partial.rename(path)


def build(folder: Path, shards: int, processes: int) -> None:
    """Draw the missing shards."""
    folder.mkdir(parents=True, exist_ok=True)
    with Pool(processes) as pool:
        for done, _ in enumerate(pool.imap(_draw_shard, [(folder, k) for k in range(shards)]), 1):
            print(f"{done}/{shards} shards of {VIEWS_A_SHARD * LOOKS} pictures", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the training pictures of the checkpoint `demo`.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    build(options.folder, options.shards, options.processes)


if __name__ == "__main__":
    main()
