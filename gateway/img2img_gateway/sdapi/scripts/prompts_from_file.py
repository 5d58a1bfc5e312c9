"""A1111's "Prompts from file or textbox": a render for each line, which may set fields by options."""

import shlex
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest
from img2img_gateway.sdapi.scripts.script import Run, Script, changed, check_count
from img2img_shared.errors import Refused
from img2img_shared.seeds import DRAW, draw_seed, shift_seed

_PROMPTS = ("prompt", "negative_prompt")


def _is_true(text: str) -> bool:
    return text == "true"


#: what a line may set, and what reads its value
_FIELDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys((*_PROMPTS, "sampler_name", "styles", "sd_model"), str),
    **dict.fromkeys(("seed", "subseed", "seed_resize_from_h", "seed_resize_from_w"), int),
    **dict.fromkeys(("batch_size", "n_iter", "steps", "width", "height"), int),
    **dict.fromkeys(("subseed_strength", "cfg_scale"), float),
    **dict.fromkeys(("restore_faces", "tiling"), _is_true),
}
#: and what without any effect on a picture
_INERT = frozenset(
    {
        *("outpath_samples", "outpath_grids", "prompt_for_display", "sampler_index"),
        *("do_not_save_samples", "do_not_save_grid"),
    }
)


class PromptsFromFile(Script):
    """The script's arguments."""

    title: ClassVar = "prompts from file or textbox"

    iterate_seed: Annotated[bool, Field(title="Iterate seed every line")] = False
    same_seed: Annotated[bool, Field(title="Use same random seed for all lines")] = False
    position: Annotated[Literal["start", "end"], Field(title="Insert prompts at the")] = "start"
    text: Annotated[str, Field(title="List of prompt inputs", max_length=2_000_000)] = ""

    def run(self, request: RenderRequest, lenient: Leniency) -> Run:
        """A render for each line that is not empty.

        Raises:
            Refused: there are none, or too many; or a line sets a field to an invalid value.
        """
        lines = [line for line in map(str.strip, self.text.splitlines()) if line]
        if not lines:
            raise Refused("script_args.text", self.text, "give prompts, each in a line of its own")
        check_count(len(lines), "script_args.text")
        seed = request.seed
        if self.iterate_seed or self.same_seed:
            seed = draw_seed(seed)
        requests = []
        for line in lines:
            requests.append(changed(request, {"seed": seed} | self._changes(line, request, lenient)))
            if self.iterate_seed:
                seed = shift_seed(seed, request.batch_size * request.n_iter)
        changes = {
            "seed": seed,
            "all_seeds": [seed],
            "subseed": DRAW,
            "all_subseeds": [DRAW],
            "negative_prompt": request.negative_prompt,
            "all_negative_prompts": [request.negative_prompt],
            # which A1111 finds out for each line's render alone
            **dict.fromkeys(("restore_faces", "sd_model_name", "sd_model_hash")),
        }
        return Run(requests=requests, account_changes=lambda *_: changes)

    def _changes(self, line: str, request: RenderRequest, lenient: Leniency) -> dict[str, Any]:
        """The fields that a line sets."""
        found: dict[str, Any] = {"prompt": line}
        if "--" in line:
            try:
                found = dict(_pairs(line))
            except ValueError as error:
                why = f"{error}; all of it is taken for a prompt, as in A1111"
                lenient.set_aside("script_args.text", line, why)
        for name in found.keys() & _INERT:
            lenient.set_aside("script_args.text", line, f"{name} has no effect on a picture")
            del found[name]
        for name in _PROMPTS:
            if found.get(name) and (own := getattr(request, name)):
                parts = (found[name], own) if self.position == "start" else (own, found[name])
                found[name] = " ".join(parts)
        if "styles" in found:
            found["styles"] = [found["styles"]]
        if "sd_model" in found:
            model = {"sd_model_checkpoint": found.pop("sd_model")}
            found["override_settings"] = (request.override_settings or {}) | model
        return found


def _value(name: str, text: str) -> Any:
    kind = _FIELDS.get(name, str)
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, which is no {'whole ' if kind is int else ''}number") from None


def _pairs(line: str) -> Iterator[tuple[str, Any]]:
    """The values that ``--name value`` sets; a prompt's value ends at the next name.

    Raises:
        ValueError: the line is malformed.
    """
    words = shlex.split(line)
    while words:
        word, *words = words
        if not word.startswith("--"):
            raise ValueError(f"{word} is no name: one begins with --")
        name = word.removeprefix("--")
        if name not in _FIELDS and name not in _INERT:
            raise ValueError(f"no line can set {name}")
        if not words:
            raise ValueError(f"{word} has no value")
        count = 1
        while name in _PROMPTS and count < len(words) and not words[count].startswith("--"):
            count += 1
        yield name, _value(name, " ".join(words[:count]))
        words = words[count:]
