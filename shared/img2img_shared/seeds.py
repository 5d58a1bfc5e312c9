"""Which seeds a job's images have."""

import random

#: what torch's generator takes, and msgpack carries
SEED_MIN, SEED_MAX = -(2**63), 2**64 - 1
#: the seed that stands for one that is to be drawn
DRAW = -1

#: seeds are drawn from A1111's range, so that one can be typed into other tools
_DRAWN_FROM = 4294967294


def draw_seed(seed: int) -> int:
    """`seed`, or one drawn for it."""
    # not the program's own generator, which it may have seeded for a reason
    return random.SystemRandom().randrange(_DRAWN_FROM) if seed == DRAW else seed


def shift_seed(seed: int, by: int) -> int:
    """The seed that comes so many later; after the largest comes the least.

    >>> shifted(-5, 7), shifted(-5, 4), shifted(2**64 - 1, 1) == SEED_MIN
    (2, -1, True)
    """
    return (seed + by - SEED_MIN) % (SEED_MAX + 1 - SEED_MIN) + SEED_MIN


def seeds_of(
    seed: int, subseed: int, subseed_strength: float, index: int, subseed_index: int | None = None
) -> tuple[int, int]:
    """(seed, subseed) of image `index` of those that begin with these.

    Both count up, but with a subseed strength the seed stays (A1111's ``all_seeds`` and ``all_subseeds``).

    Args:
        subseed_index: of the image among those that its subseed is counted over; None: `index`.
    """
    later = index if subseed_index is None else subseed_index
    return seed if subseed_strength > 0 else shift_seed(seed, index), shift_seed(subseed, later)
