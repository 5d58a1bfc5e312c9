"""The seeds of a job's images."""

import random

#: what torch's generator takes, and msgpack carries
SEED_MIN, SEED_MAX = -(2**63), 2**64 - 1
#: the seed that stands for one that is to be drawn
DRAW = -1

#: how many seeds there are for preprocessors with randomness: numpy's older generators take no more
CONTROL_SEEDS = 2**32

#: seeds are drawn from A1111's range, so that one can be typed into other tools
_DRAWN_FROM = 4294967294


def draw_seed(seed: int) -> int:
    """`seed`, or a random one if it is -1."""
    # not the program's own generator, which it may have seeded for a reason
    return random.SystemRandom().randrange(_DRAWN_FROM) if seed == DRAW else seed


def shift_seed(seed: int, by: int) -> int:
    """The seed `by` places later; the smallest one follows the largest.

    >>> shift_seed(-5, 7), shift_seed(-5, 4), shift_seed(2**64 - 1, 1) == SEED_MIN
    (2, -1, True)
    """
    return (seed + by - SEED_MIN) % (SEED_MAX + 1 - SEED_MIN) + SEED_MIN


def control_seed(seed: int, second: int) -> int:
    """What preprocessors with randomness draw from, in 0..2³² - 1: the sum; -1 as second is the seed again.

    >>> control_seed(5, 7), control_seed(5, -1), control_seed(5, -2), control_seed(-3, 2**32 + 1)
    (12, 10, 5, 1)
    """
    return (max(seed, 0) + max(seed if second == DRAW else second, 0)) % CONTROL_SEEDS


def seeds_of(
    seed: int, subseed: int, subseed_strength: float, index: int, subseed_index: int | None = None
) -> tuple[int, int]:
    """(seed, subseed) of the image at `index`, if these are the first image's.

    Both count up, but with a subseed strength the seed stays (A1111's ``all_seeds`` and ``all_subseeds``).

    Args:
        subseed_index: the image's place among those over which subseeds are counted; None: `index`.
    """
    later = index if subseed_index is None else subseed_index
    return seed if subseed_strength > 0 else shift_seed(seed, index), shift_seed(subseed, later)
