"""Renders a folder of pictures into another: ``python render_folder.py photos/ painted/ --prompt snow``.

A picture ``NAME.jpg`` with a ``NAME.mask.png`` beside it is repainted within that mask only.
"""

import argparse
import sys
from pathlib import Path

from img2img_producer import Farm, Picture

KINDS = {".jpg", ".jpeg", ".png", ".webp"}


def pictures(folder: Path) -> list[Picture]:
    """The folder's pictures, each with its mask where it has one."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in KINDS and ".mask" not in path.suffixes:
            mask = path.with_suffix(".mask.png")
            found.append(Picture(image=path, mask=mask if mask.exists() else None))
    return found


def main() -> int:
    """Exit status 1 if a picture failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    failed = 0
    with Farm() as farm:  # its URLs come from IMG2IMG_REDIS_URL and IMG2IMG_STORE_URL
        job = farm.submit(
            pictures(given.folder),
            prompt=given.prompt,
            denoising_strength=given.strength,
            steps=given.steps,
            width=given.size,
            height=given.size,
            resize_mode=1,
        )
        for result in farm.results(job):
            if result.reason is None:
                print("saved", result.save(given.out))
            else:
                failed += 1
                print(result.name, "failed:", result.reason, file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
