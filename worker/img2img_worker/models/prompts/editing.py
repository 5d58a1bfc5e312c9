"""Prompt editing and alternation: ``[from:to:when]``, ``[to:when]``, ``[from::when]`` and ``[a|b]``.

A1111's grammar, parsed by hand: A1111's own parser takes minutes for a long prompt, and reads stray brackets
beside an edit differently from one start of the program to the next.
"""

import re
from dataclasses import dataclass

#: (until, text): `text` holds for the model calls up to and including number `until`, counted from 0
Entry = tuple[int, str]

_TOKEN = re.compile(r"(?:[^\\\[\]():|]|\\.)+|[\[\]():|]")
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """``[before:after:when]``, or ``[a|b|...]`` where `when` is None."""

    choices: "tuple[_Nodes, ...]"
    when: str | None = None


#: parsed text: plain pieces, edits, and what brackets hold
_Nodes = list["str | _Edit | _Nodes"]


def schedule(prompt: str, steps: int, *, old: bool = False, earlier: int = 0) -> tuple[Entry, ...]:
    """A prompt's texts over `steps` steps, as A1111's ``get_learned_conditioning_prompt_schedules`` has them.

    An edit switches after step `when`. If `when` has a decimal point (with `old`: if it is below 1), it is a
    fraction of the steps. An alternation changes at every step. Malformed brackets are text; nothing raises.

    Args:
        earlier: steps of the pass before this one: `when` counts from the first of those, and fractions from
            1 to 2 are this pass's.

    >>> schedule("a [red:blue:0.5] ball", 10)
    ((5, 'a red ball'), (10, 'a blue ball'))
    """
    nodes = _parse(prompt)
    if nodes is None:
        return ((steps, prompt),)
    clock = _Clock(steps=steps, earlier=earlier, old=old)
    return tuple((step, _text_at(nodes, step, clock)) for step in _switches(nodes, clock))


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """Converts the `when` of edits into steps; see `schedule`."""

    steps: int
    earlier: int
    old: bool

    def last(self, when: str) -> int:
        """The last step before a switch, 0 to `steps`."""
        is_share = float(when) < 1 if self.old else "." in when
        step = (float(when) - (self.earlier > 0)) * self.steps if is_share else float(when) - self.earlier
        return int(min(max(step, 0), self.steps))


def _switches(nodes: _Nodes, clock: _Clock) -> list[int]:
    """The last step of each entry, ascending; `steps` is always one."""
    found = {clock.steps}
    waiting = list(nodes)
    while waiting:  # not recursive: brackets may nest thousands deep
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, _Edit):
            waiting += node.choices
            found.update(range(1, clock.steps + 1) if node.when is None else [clock.last(node.when)])
    return sorted(found - {0})


def _text_at(nodes: _Nodes, step: int, clock: _Clock) -> str:
    """The text that holds at a step, counted from 1."""
    text: list[str] = []
    waiting = nodes[::-1]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            text.append(node)
        elif isinstance(node, list):
            waiting += reversed(node)
        elif node.when is None:
            waiting.append(node.choices[(step - 1) % len(node.choices)])
        else:
            waiting.append(node.choices[step > clock.last(node.when)])
    return "".join(text)


class _Open:
    """A bracket not closed yet, and its content, separated by ``:`` and ``|``."""

    def __init__(self, bracket: str) -> None:
        self.bracket = bracket
        self.separators: list[str] = []
        self.parts: list[_Nodes] = [[]]

    def separate(self, separator: str) -> None:
        self.separators.append(separator)
        self.parts.append([])

    def close(self) -> _Nodes | None:
        """What the closed bracket and its content mean; None: they are plain text."""
        separators = "".join(self.separators)
        if self.bracket == "(":
            return [*self.spelled(), ")"] if separators in ("", ":") else None
        if not separators:
            return [*self.spelled(), "]"]
        if not separators.strip("|"):
            return [_Edit(choices=tuple(self.parts))]
        match self.parts, separators:
            case [*before, after, [str(last)]], ":" | "::" if when := _WHEN.fullmatch(last):
                return [_Edit(choices=(before[0] if before else [], after), when=when[1])]
        return None

    def spelled(self) -> _Nodes:
        """Bracket, parts and separators as they were written."""
        nodes: _Nodes = [self.bracket, self.parts[0]]
        for separator, part in zip(self.separators, self.parts[1:], strict=True):
            nodes += [separator, part]
        return nodes


def _parse(prompt: str) -> _Nodes | None:
    """The prompt with its edits; None: A1111's grammar does not allow it.

    A bracket only counts if all within it is well-formed: anything out of place turns every bracket around
    it into text. A bar outside of an alternation makes the whole prompt plain text, and so does a backslash
    with nothing to escape.
    """
    tokens = _TOKEN.findall(prompt)
    if sum(map(len, tokens)) != len(prompt):
        return None
    text: _Nodes = []
    opened: list[_Open] = []

    def give_up() -> None:
        for bracket in opened:
            text.extend(bracket.spelled())
        opened.clear()

    for token in tokens:
        if token in ("(", "["):
            opened.append(_Open(token))
        elif not opened:
            text.append(token)
        elif token in (":", "|"):
            opened[-1].separate(token)
        elif token not in _CLOSES:
            opened[-1].parts[-1].append(token)
        else:
            fits = opened[-1].bracket == _CLOSES[token]
            group = opened[-1].close() if fits else None
            if group is None:
                give_up()
                text.append(token)
            else:
                opened.pop()
                (opened[-1].parts[-1] if opened else text).append(group)
    give_up()
    return None if "|" in text else text
