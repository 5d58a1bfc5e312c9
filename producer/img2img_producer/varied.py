"""Inputs with every combination of values, like A1111's X/Y/Z plot, Prompt matrix and Prompts from file."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

from img2img_producer.inputs import Picture
from img2img_producer.manifest_formats import check_column, decoded, value_of
from img2img_shared.errors import Refused, Summary
from img2img_shared.own_params import own_names
from img2img_shared.params import Params
from img2img_shared.prompt_choices import matrix
from img2img_shared.seeds import draw_seed, shift_seed

#: choices of an input, at most
MOST = 10_000
#: bytes of a file of prompts
_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True)
class Axis:
    """An axis of variation: the parameters of each choice."""

    choices: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> Self:
        """The values of one parameter.

        >>> Axis.of("steps", [10, 20]).choices
        [{'steps': 10}, {'steps': 20}]
        """
        return cls([{name: value} for value in values])

    @classmethod
    def read(cls, word: str) -> Self:
        """The axis in ``NAME=VALUE,VALUE,...``, with values quoted as in CSV.

        Raises:
            Refused: names "vary"; it is malformed, or names no parameter that an input may have.
        """
        name, mark, values = word.partition("=")
        name = name.strip().replace("-", "_")
        if not mark or not values.strip():
            raise Refused("vary", word, "write a parameter and its values, such as steps=10,20,30")
        if name not in own_names():
            check_column(name, "vary")
            raise Refused("vary", name, "give a parameter; the pictures of each input go into a manifest")
        try:
            (cells,) = csv.reader([values], skipinitialspace=True, strict=True)
        except (csv.Error, ValueError) as error:
            raise Refused("vary", word, f"quote its values ({error})") from None
        return cls.of(name, [value_of(name, cell) for cell in cells])

    @classmethod
    def of_matrix(cls, prompt: str) -> Self:
        """Every combination of a prompt's parts between bars.

        Raises:
            Refused: there are none, or too many.
        """
        if "|" not in prompt:
            raise Refused("prompt", prompt, "write its parts between bars: 'a cat|at night|in snow'")
        return cls.of("prompt", matrix(prompt))

    @classmethod
    def of_lines(cls, path: Path) -> Self:
        """The prompts in a file, one per line.

        Raises:
            Refused: names "prompts_file"; it cannot be read, or has no prompts.
        """
        try:
            with path.expanduser().open("rb") as file:
                data = file.read(_LARGEST + 1)
            text = decoded(data)
        except OSError as error:
            raise Refused("prompts_file", str(path), f"it cannot be read ({error.strerror})") from None
        except Refused as error:
            raise error.under("prompts_file: ") from None
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        if not lines or len(data) > _LARGEST:
            told = Summary(f"{len(lines):,} lines")
            raise Refused("prompts_file", told, f"give a prompt a line, and at most {_LARGEST:,} bytes")
        return cls.of("prompt", lines)


class Varied(Sequence[Picture]):
    """Each of some inputs with every choice, made when it is needed; the first axis varies fastest.

    >>> len(Varied([Picture(image="cat.png")], [Axis.of("steps", [10, 20]), Axis.of("cfg_scale", [4, 7])]))
    4

    An input's name is followed by the number of its choice, from 1. All choices of an input have the same
    seed, unless the seed varies.

    Args:
        params: the job's.

    Raises:
        Refused: there are too many choices, or two axes of one parameter.
    """

    def __init__(
        self, pictures: Sequence[Picture], axes: Sequence[Axis], params: Params | None = None
    ) -> None:
        self.inputs, self.axes = pictures, axes
        names = [name for axis in axes for name in axis.choices[0]]
        if twice := {name for name in names if names.count(name) > 1}:
            raise Refused("vary", min(twice), "let a parameter vary once")
        #: of one input
        self.choices = math.prod(len(axis.choices) for axis in axes)
        if self.choices > MOST:
            raise Refused("vary", Summary(f"{self.choices:,} choices"), f"give at most {MOST:,} of an input")
        params = params or Params()
        #: of each choice
        self.outputs = params.images_per_input
        self._seed = draw_seed(params.seed)
        self._is_seeded = params.seed_mode != "same"

    def __len__(self) -> int:
        return len(self.inputs) * self.choices

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        at, number = divmod(index % len(self), self.choices)
        picture = self.inputs[at]
        seed = {"seed": shift_seed(self._seed, at * self.outputs)} if self._is_seeded else {}
        label = picture.label
        name = label and f"{label}-{number + 1:0{len(str(self.choices))}}"
        params = {**seed, **picture.params, **self._choice(number)}
        return Picture(pictures=picture.pictures, params=params, name=name, folder=picture.folder)

    def _choice(self, number: int) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for axis in self.axes:
            number, place = divmod(number, len(axis.choices))
            chosen |= axis.choices[place]
        return chosen
