"""Renders what is put into a folder, as it comes: ``python watch_folder.py inbox/ painted/ --prompt snow``.

Stop it with Ctrl-C. It renders what lies there at its start, too.
"""

import argparse
import time
from pathlib import Path

from img2img_producer import Farm

KINDS = {".jpg", ".jpeg", ".png", ".webp"}


def new_pictures(inbox: Path, seen: set[Path]) -> list[Path]:
    """Pictures not seen before that nobody is writing any more: their size stands still."""
    found = [path for path in sorted(inbox.iterdir()) if path.suffix.lower() in KINDS and path not in seen]
    sizes = {path: path.stat().st_size for path in found}
    if found:
        time.sleep(0.3)
    return [path for path in found if sizes[path] and path.stat().st_size == sizes[path]]


def main() -> None:
    """Runs until Ctrl-C, or until `--stop-after` pictures are rendered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inbox", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--stop-after", type=int, help="pictures; default: never")
    given = parser.parse_args()
    seen: set[Path] = set()
    done = 0
    with Farm() as farm:
        while given.stop_after is None or done < given.stop_after:
            fresh = new_pictures(given.inbox, seen)
            seen.update(fresh)
            if not fresh:
                time.sleep(1)
                continue
            job = farm.submit(
                fresh,
                prompt=given.prompt,
                denoising_strength=given.strength,
                steps=given.steps,
                width=given.size,
                height=given.size,
                resize_mode=1,
            )
            for result in farm.results(job):
                done += 1
                if result.reason is None:
                    print(result.name, "->", result.save(given.out, overwrite=True), flush=True)
                else:
                    print(result.name, "failed:", result.reason, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
