"""The tensors of a file, and which of them a reader has used."""

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from img2img_shared.errors import Refused

#: tensors that no picture depends on: copies kept for training, the optimizer's state, tables that follow
#: from the noise levels, counts and masks, CLIP's parts for comparing texts with pictures
_WITHOUT_EFFECT = re.compile(
    r"(model_ema|first_stage_model\.(model_ema|loss)|optimizer\w*|ema|callbacks|loops)\..+"
    r"|(global_step|epoch|state_dict|log_sigmas|sigmas|denoiser\.(log_)?sigmas|scale_factor|logvar|__\w+__)"
    r"|(alphas_cumprod|alphas_cumprod_prev|betas|lvlb_weights|posterior_\w+|sqrt_\w+|log_one_minus_\w+)"
    r"|(cond_stage_model|conditioner\.embedders\.\d|text_encoders)\.(.+\.)?"
    r"(position_ids|logit_scale|attn_mask|text_projection(\.weight)?|(visual|vision_model|visual_projection)\..+)"
)
#: how many names a refusal lists
_NAMED = 3


class Tensors(Mapping[str, Tensor]):
    """Tensors by name. Whatever is looked up counts as taken; names and membership alone do not."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._names = {name: name for name in tensors}
        self._taken: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        whole = self._names[name]
        self._taken.add(whole)
        return self._tensors[whole]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def below(self, *prefixes: str) -> "Tensors":
        """A view of the tensors below these prefixes, named without them; what it takes counts here, too."""
        view = Tensors(self._tensors)
        view._names = {
            name.removeprefix(prefix): whole
            for prefix in prefixes
            for name, whole in self._names.items()
            if name.startswith(prefix)
        }
        view._taken = self._taken
        return view

    def without_taking(self) -> dict[str, Tensor]:
        """All of them, none counted as taken."""
        return {name: self._tensors[whole] for name, whole in self._names.items()}

    def take(self, names: Iterable[str]) -> None:
        """Count these as taken."""
        self._taken.update(self._names[name] for name in names)

    def refuse_left(self, source: object) -> None:
        """
        Raises:
            Refused: some tensors were not taken, and are not known to have no effect.
        """
        left = sorted(
            whole
            for whole in self._names.values()
            if whole not in self._taken and not _WITHOUT_EFFECT.fullmatch(whole)
        )
        if left:
            raise Refused("model", str(source), f"nothing here uses {some(left)} in it; use another file")


def some(names: list[str]) -> str:
    """The first of the names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
