"""Emphasis in a prompt: A1111's ``(word:1.3)``, ``(word)``, ``[word]``, and the word BREAK."""

import math
import re

import numpy as np

#: the piece that stands for the word BREAK, which begins a new chunk
BREAK = ("BREAK", -1.0)

_TOKEN = re.compile(r"\\[()\[\]\\]?|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")
_ROUND, _SQUARE = 1.1, 1 / 1.1


def pieces_of(text: str, emphasis: str) -> list[tuple[str, float]]:
    """The pieces of a text with their weights; with A1111's `emphasis` "None" the whole text is one piece."""
    return [(text, 1.0)] if emphasis == "None" else parse_attention(text)


def old_weight(token: str) -> float:
    """The factor by which a token's brackets change the weight of all that follow (A1111's old emphasis)."""
    weight = 1.0
    for character in token:
        if character in "(]":
            weight *= _ROUND
        elif character in "[)":
            weight /= _ROUND
    return weight


def parse_attention(text: str) -> list[tuple[str, float]]:
    r"""The pieces of a text with their weights, as A1111's ``parse_prompt_attention`` reads them.

    ``(x)`` is 1.1, ``[x]`` 1/1.1, ``(x:1.3)`` 1.3, nested ones multiply; ``\(`` is a bracket; brackets left
    open reach to the end. `BREAK` stands where the prompt has that word; within brackets it is weighted like
    its neighbours, and so no longer `BREAK` but a word. Neighbours of equal weight are one piece. There is at
    least one piece, and nothing raises.
    """
    pieces: list[str] = []
    weights = np.ones(2 * len(text) + 1)  # an array: each bracket that stays open multiplies all that follow
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        weights[start : len(pieces)] *= factor

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for match in _TOKEN.finditer(text):
            symbol, weight = match[0], _number(match[1])
            if symbol.startswith("\\"):
                pieces.append(symbol[1:])
            elif symbol in opened:
                opened[symbol].append(len(pieces))
            elif weight is not None and opened["("]:
                multiply(opened["("].pop(), weight)
            elif symbol == ")" and opened["("]:
                multiply(opened["("].pop(), _ROUND)
            elif symbol == "]" and opened["["]:
                multiply(opened["["].pop(), _SQUARE)
            else:
                for number, part in enumerate(_split_at_breaks(symbol)):
                    if number:
                        weights[len(pieces)] = BREAK[1]
                        pieces.append(BREAK[0])
                    pieces.append(part)
        for start in opened["("]:
            multiply(start, _ROUND)
        for start in opened["["]:
            multiply(start, _SQUARE)
    return _merged(pieces, weights.tolist()) or [("", 1.0)]


def _number(text: str | None) -> float | None:
    """A weight; None: it is no finite number ("1.2.3", where A1111 fails), and stays text."""
    try:
        return float(text) if text and math.isfinite(float(text)) else None
    except ValueError:
        return None


def _split_at_breaks(text: str) -> list[str]:
    """The text between BREAKs, without the spaces beside them."""
    first, *rest = re.split(r"\bBREAK\b", text)
    if not rest:
        return [first]
    return [first.rstrip(), *(part.strip() for part in rest[:-1]), rest[-1].lstrip()]


def _merged(pieces: list[str], weights: list[float]) -> list[tuple[str, float]]:
    runs: list[tuple[list[str], float]] = []
    for piece, weight in zip(pieces, weights, strict=False):
        if runs and runs[-1][1] == weight:
            runs[-1][0].append(piece)
        else:
            runs.append(([piece], weight))
    return [("".join(run), weight) for run, weight in runs]
