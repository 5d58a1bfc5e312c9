"""A1111's prompt matrix: every combination of a prompt's parts between bars."""

from img2img_shared.errors import Refused

#: parts behind the first, at most: each doubles the prompts
MOST_PARTS = 20


def parts_of(prompt: str, field: str = "prompt") -> tuple[str, list[str]]:
    """The part that is in every prompt, and those that are in half of them.

    Raises:
        Refused: names `field`; there are too many.
    """
    first, *parts = prompt.split("|")
    if len(parts) > MOST_PARTS:
        raise Refused(field, prompt, "its parts between bars have too many combinations")
    return first, parts


def matrix(prompt: str, field: str = "prompt", *, joint: str = ", ", at_start: bool = False) -> list[str]:
    """The prompts; the first part's bit counts least.

    >>> matrix("a harbour|at night|with boats")
    ['a harbour', 'a harbour, at night', 'a harbour, with boats', 'a harbour, at night, with boats']

    Args:
        joint: between two parts.
        at_start: whether the parts that vary come before the one that does not.

    Raises:
        Refused: as `parts_of`.
    """
    first, parts = parts_of(prompt, field)
    words = [part.strip().strip(",") for part in parts]
    found = []
    for number in range(1 << len(words)):
        chosen = [word for i, word in enumerate(words) if number >> i & 1]
        found.append(joint.join([*chosen, first] if at_start else [first, *chosen]))
    return found
