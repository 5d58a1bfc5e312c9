"""Repaints a video between two ffmpegs: PNG frames in, PNG frames out, in order.

ffmpeg -i in.mp4 -f image2pipe -c:v png - | python ffmpeg_pipe.py --prompt snow \\
    | ffmpeg -f image2pipe -r 24 -i - out.mp4
"""

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from img2img_producer import Farm, Picture

_END = b"IEND\xaeB`\x82"


def frames(stream: BinaryIO) -> Iterator[bytes]:
    """The PNG files that stand one after another in a stream."""
    rest = b""
    while chunk := stream.read(1 << 20):
        *whole, rest = (rest + chunk).split(_END)
        yield from (frame + _END for frame in whole)


def main() -> int:
    """Exit status 1 if a frame failed; the frame as it came in stands in its place then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--strength", type=float, default=0.4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7, help="of all frames, so that they flicker less")
    parser.add_argument("--at-once", type=int, default=100, help="frames of a job; two jobs are under way")
    given = parser.parse_args()
    failed = 0
    with Farm() as farm:
        coming = frames(sys.stdin.buffer)
        under_way: deque[tuple[str, list[bytes]]] = deque()

        def write_first() -> int:
            job, originals = under_way.popleft()
            painted = dict(enumerate(originals))
            wrong = 0
            for result in farm.results(job):
                if result.reason is None:
                    painted[result.index] = result.read()
                else:
                    wrong += 1
                    print(result.name, "failed:", result.reason, file=sys.stderr)
            for index in range(len(originals)):
                sys.stdout.buffer.write(painted[index])
            sys.stdout.buffer.flush()
            farm.remove(job)
            return wrong

        while batch := list(islice(coming, given.at_once)):
            job = farm.submit(
                [Picture(image=frame, seed=given.seed) for frame in batch],
                prompt=given.prompt,
                denoising_strength=given.strength,
                steps=given.steps,
                width=given.size,
                height=given.size,
                resize_mode=1,
            )
            under_way.append((job, batch))
            if len(under_way) > 1:
                failed += write_first()
        while under_way:
            failed += write_first()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
