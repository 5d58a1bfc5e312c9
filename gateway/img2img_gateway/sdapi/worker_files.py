"""What a request names among workers' files: LoRAs in tags, VAEs in an option, and so on."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.sdapi.leniency import Leniency
from img2img_shared.param_groups.face_params import FaceParams
from img2img_shared.params import Params
from img2img_shared.prompt_tags import strip_comments, take_extra_networks, unknown_tags

#: what A1111 calls the VAE that is found by the checkpoint's name, and once called it
_AUTOMATIC = ("Automatic", "auto")
#: so many are named in a warning
_NAMED = 20


class WorkerFiles:
    """The files of a model's workers, for one request.

    What nobody can tell yet is kept: the worker decides.
    """

    def __init__(self, farm: AsyncFarm, model: str, lenient: Leniency) -> None:
        self._farm = farm
        self._model = model
        self._lenient = lenient

    def check_tags(self, prompt: str, options: Mapping[str, Any]) -> None:
        """Check that the tags of a prompt are well-formed, and of known kinds.

        Raises:
            Refused: one is not.
        """
        text = _uncommented(prompt, options)
        for tag in unknown_tags(text):
            self._lenient.set_aside("prompt", tag, f"{tag} asks for nothing that is known here")
        take_extra_networks(text)

    async def check_inversions(self, prompt: str, negative_prompt: str) -> None:
        """Check that prompts name no textual inversion that the model cannot use; A1111 reads it as a word.

        Raises:
            Refused: they name one, and the gateway is strict.
        """
        found = await self._farm.inversions(self._model)
        unusable = {name: info.reason for name, info in found.items() if info.reason}
        for field, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
            for name in named_in(text, unusable):
                why = f"{name} is read as a word, for the textual inversion cannot be used: {unusable[name]}"
                self._lenient.set_aside(field, name, why)

    async def with_networks(self, prompt: str, options: Mapping[str, Any]) -> str:
        """`prompt` with the hypernetwork and the LoRA that options name, if they do.

        Like A1111, it appends them, the hypernetwork first.
        """
        if options.get("sd_hypernetwork", "None") != "None":
            known = await self._farm.files_of("hypernetwork", self._model)
            prompt = self._with_network(prompt, options, "sd_hypernetwork", "hypernet", known)
        if options.get("sd_lora", "None") != "None":
            listed = await self._farm.loras_of(self._model)
            prompt = self._with_network(prompt, options, "sd_lora", "lora", listed)
        return prompt

    def _with_network(
        self, prompt: str, options: Mapping[str, Any], option: str, tag: str, known: Collection[str] | None
    ) -> str:
        name = str(options[option])
        if known is not None and name not in known:
            why = f"none of that name is here ({_list(known)}); as in A1111, none is used"
            self._lenient.set_aside(option, name, why)
            return prompt
        _, loras, hypernetworks = take_extra_networks(_uncommented(prompt, options))
        if any(each.name == name for each in (loras if tag == "lora" else hypernetworks)):
            return prompt
        return f"{prompt}<{tag}:{name}:{options.get('extra_networks_default_multiplier', 1.0)}>"

    async def with_vae(self, options: dict[str, Any]) -> dict[str, Any]:
        """`options` without a VAE that does not exist, without which A1111 renders."""
        wanted = options.get("sd_vae", _AUTOMATIC[0])
        if wanted in (*_AUTOMATIC, "None"):
            return options
        known = await self._farm.files_of("vae", self._model)
        if known is None or wanted in known or await self._farm.pushed("vae", [wanted]):
            return options
        why = f"no VAE {wanted!r} here ({_list(known)}); the checkpoint's own renders it, as in A1111"
        self._lenient.set_aside("sd_vae", wanted, why)
        return {**options, "sd_vae": "None"}

    async def with_faces(self, params: Params) -> Params:
        """`params`, without `restore_faces` if no worker can do that: A1111 then leaves faces alone."""
        if not params.restore_faces:
            return params
        known, name = await self._farm.files_of("face_restorer", self._model), params.face_restoration_model
        if known is None or name in known:
            return params
        why = f"there is no {name} here; faces stay as they are, as in A1111 without its files"
        self._lenient.set_aside("restore_faces", True, why)
        neutral = {each: field.default for each, field in FaceParams.model_fields.items()}
        return params.model_copy(update=neutral)


def named_in(text: str, names: Collection[str]) -> list[str]:
    """Those of `names` that occur in a text as whole words, in any case.

    >>> named_in("a cat, (EasyNegative:1.2), concatenate", ["easynegative", "cat", "dog"])
    ['easynegative', 'cat']
    """
    return [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)]


def _uncommented(prompt: str, options: Mapping[str, Any]) -> str:
    return strip_comments(prompt, enabled=options.get("enable_prompt_comments", True))


def _list(names: Collection[str]) -> str:
    return ", ".join([*names][:_NAMED]) or "there are none"
