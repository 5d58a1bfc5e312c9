"""Turns a request, with its infotext, settings, styles and scripts, into parameters for a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.sdapi.control_units import control_units
from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.option_table import defaults
from img2img_gateway.sdapi.read_infotext import request_fields, soft_inpainting_arguments
from img2img_gateway.sdapi.request import RenderRequest, Txt2ImgRequest
from img2img_gateway.sdapi.scripts.always_on import SOFT_INPAINTING, script_parameters
from img2img_gateway.sdapi.scripts.script import Run
from img2img_gateway.sdapi.scripts.selectable import script_run
from img2img_gateway.sdapi.styles import Style, apply_styles, read_styles
from img2img_gateway.sdapi.tenant_options import Options
from img2img_gateway.sdapi.translate import read_request
from img2img_gateway.sdapi.worker_files import WorkerFiles
from img2img_shared.checkpoints import is_hash
from img2img_shared.infotext_parser import read_pairs
from img2img_shared.params import Params
from img2img_shared.refusals import refusal
from img2img_shared.roles import check_roles

#: options that A1111 has read before it comes to a request's override_settings
_TOO_LATE = ("initial_noise_multiplier", "samples_format")
#: one that A1111 reads where it loads a VAE, which it does once it comes to one of these in a request
_READ_WITH_VAE, _LOADS_VAE = "sd_vae_overrides_per_model_preferences", {"sd_vae", "sd_model_checkpoint"}
#: the setting by which infotexts choose no checkpoint; in a request, it is too late for its infotext
_KEEPS_CHECKPOINT = "disable_weights_auto_swap"
#: what A1111's page calls the request's own
_SAME_CHECKPOINT = "Use same checkpoint"
_PROMPTS = {"prompt", "negative_prompt"}
#: what clients send to checkpoints of any kind, and which value of it is a default of theirs
_FOR_FEW = {"image_cfg_scale": 1.5, "distilled_cfg_scale": 3.5}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A request that can be rendered."""

    #: with what its infotext fills
    body: RenderRequest
    model: str
    #: of its checkpoint, where pictures' texts do not tell it
    model_hash: str | None = None
    params: Params
    #: those that are set, the request's own over the tenant's
    options: Mapping[str, Any]
    #: base64, by their roles
    control_pictures: dict[str, str]
    #: what of it was set aside
    warnings: list[str]
    #: what its script makes of it, and that as it can be rendered
    run: Run | None = None
    of_script: tuple["Reading", ...] = ()
    #: what its sheets are laid out by: in A1111, the request's own options are put back by then
    options_of_sheets: Mapping[str, Any] = field(default_factory=dict)

    @property
    def renders(self) -> tuple["Reading", ...]:
        """The renders for it, in order."""
        return (self,) if self.run is None else self.of_script


class Reader:
    """Reads one tenant's requests."""

    def __init__(self, farm: AsyncFarm, tenant: str) -> None:
        self._farm = farm
        self._options = Options(farm, tenant)

    async def read(self, sent: RenderRequest) -> Reading:
        """The reading of `sent`, with its script.

        Raises:
            Refused: names the field.
        """
        lenient = Leniency(strict=self._farm.settings.strict)
        reading = await self._read(sent, lenient, {})
        run = script_run(reading.body, lenient)
        if run is None:
            return reading
        renders = []
        for each in run.requests:
            own = Leniency(strict=self._farm.settings.strict)
            renders.append(await self._read(each, own, run.params))
            lenient.warnings += [warning for warning in own.warnings if warning not in lenient.warnings]
        stored = await self._options.chosen()
        return replace(reading, run=run, of_script=tuple(renders), options_of_sheets=stored)

    async def _read(self, sent: RenderRequest, lenient: Leniency, of_script: Mapping[str, Any]) -> Reading:
        """The reading of `sent` without its script, but with the parameters that the script has set."""
        farm = self._farm
        for name in sent.unknown:
            lenient.set_aside(name, (sent.model_extra or {})[name], "there is no such field")
        stored = {**defaults(), **await self._options.chosen()} if sent.infotext else {}
        takes_checkpoint = stored.get(_KEEPS_CHECKPOINT, True) is False
        body = apply_infotext(sent, stored, takes_checkpoint=takes_checkpoint)
        if not body.model_fields_set & _PROMPTS and read_pairs(sent.infotext or "")["Prompt"]:
            why = "img2img takes no prompts from it, as in A1111; send them as prompt and negative_prompt"
            lenient.set_aside("infotext", sent.infotext, why)
        scripts = {**of_script, **script_parameters(body, lenient)}
        control = control_units(body, lenient)
        options = await self._chosen_options(body, lenient)
        styles = await farm.call(read_styles, farm.settings.styles_file)
        prompts = apply_styles(body.prompt, body.negative_prompt, body.styles or [], styles)
        model = await farm.model(options.get("sd_model_checkpoint"), now=True)
        if not takes_checkpoint:
            await self._warn_of_other_checkpoint(sent.infotext or "", model, lenient)
        values = await self._for_checkpoint(_with_sampler(body, lenient), model, lenient)
        values = await self._with_refiner(values, model)
        if isinstance(values, Txt2ImgRequest) and values.enable_hr:
            values = await self._for_hires(values, styles, model)
        files = WorkerFiles(farm, model, lenient)
        if not body.disable_extra_networks:
            prompts = await files.with_networks(prompts[0], options), prompts[1]
            files.check_tags(prompts[0], options)
            if isinstance(values, Txt2ImgRequest) and values.enable_hr:
                hr_prompt = await files.with_networks(values.hr_prompt, options)
                values = values.model_copy(update={"hr_prompt": hr_prompt})
                files.check_tags(hr_prompt, options)
        await files.check_inversions(*prompts)
        options = await files.with_vae(options)
        scripts |= {"control": control.under(options)} if control.units else {}
        params = read_request(values, prompts, options, scripts)
        params = await files.with_faces(params)
        check_roles({*control.pictures, *(() if params.txt2img else ("image",))}, params)
        return Reading(
            body=body,
            model=model,
            model_hash=None if params.add_model_hash_to_info else await self._hash(model),
            params=params,
            options=options,
            control_pictures=control.pictures,
            warnings=lenient.warnings,
        )

    async def _warn_of_other_checkpoint(self, infotext: str, model: str, lenient: Leniency) -> None:
        """Warn of an infotext from another checkpoint than the one that renders.

        Raises:
            Refused: there is one, and the gateway is strict.
        """
        pairs = read_pairs(infotext)
        digest, named = pairs.get("Model hash", ""), pairs.get("Model")
        checkpoint = await self._farm.checkpoint(model) if digest or named else None
        if checkpoint is None:
            return
        if checkpoint.sha256 and is_hash(digest):  # which tells more than a name
            named = digest
        if named and not checkpoint.is_called(named):
            why = f"no checkpoint is taken from it ({named}), as in A1111; name it in override_settings"
            lenient.set_aside("infotext", infotext, why)

    async def _hash(self, model: str) -> str | None:
        return (await self._farm.served_checkpoint(model)).short_hash

    async def _chosen_options(self, body: RenderRequest, lenient: Leniency) -> dict[str, Any]:
        """The options for it. Those that it asks to keep are saved."""
        given = dict(body.override_settings or {})
        wanted = given.get("sd_model_checkpoint")
        if wanted and await self._farm.checkpoint(str(wanted)) is None:
            lenient.set_aside(
                "sd_model_checkpoint", wanted, f"no checkpoint {wanted!r} here; see sd_model_name"
            )
            del given["sd_model_checkpoint"]
        chosen = await self._options.checked(given)
        if not body.override_settings_restore_afterwards:
            await self._options.change(chosen)
        else:
            names = list(given)
            is_early = _READ_WITH_VAE in names and _LOADS_VAE & {*names[names.index(_READ_WITH_VAE) :]}
            for name in _TOO_LATE if is_early else (*_TOO_LATE, _READ_WITH_VAE):
                if name in chosen:
                    why = "it has no effect in override_settings, as in A1111"
                    lenient.set_aside(name, chosen.pop(name), why, told=False)
        if chosen.get("token_merging_ratio"):  # which wins over img2img's own if the request brings it
            chosen["token_merging_ratio_img2img"] = 0.0
        return {**await self._options.chosen(), **chosen}

    async def _for_hires(self, body: Txt2ImgRequest, styles: dict[str, Style], model: str) -> Txt2ImgRequest:
        """`body` with the second pass' prompts after styles, and its checkpoint.

        Raises:
            Refused: there is no such checkpoint.
        """
        wanted = body.hr_checkpoint_name if body.hr_checkpoint_name != _SAME_CHECKPOINT else None
        other = await self._other("hr_checkpoint_name", wanted, model) if wanted else None
        own = body.hr_prompt or body.prompt, body.hr_negative_prompt or body.negative_prompt
        prompt, negative_prompt = apply_styles(*own, body.styles or [], styles)
        changes = {
            "hr_prompt": prompt,
            "hr_negative_prompt": negative_prompt,
            "hr_checkpoint_name": other or (model if wanted else None),
            "hr_sampler_name": body.hr_sampler_name or None,
            "hr_scheduler": body.hr_scheduler or None,
        }
        return body.model_copy(update=changes)

    async def _with_refiner(self, body: RenderRequest, model: str) -> RenderRequest:
        """`body` with the name that workers have for its refiner, or None if it has none.

        Raises:
            Refused: there is no such checkpoint.
        """
        wanted = body.refiner_checkpoint
        if wanted in (None, "", "None", "none"):
            return body.model_copy(update={"refiner_checkpoint": None})
        other = await self._other("refiner_checkpoint", wanted, model)
        # which has a part where a hires fix changes the checkpoint
        own = model if isinstance(body, Txt2ImgRequest) and body.enable_hr else None
        return body.model_copy(update={"refiner_checkpoint": other or own})

    async def _other(self, field: str, wanted: str, model: str) -> str | None:
        """The name that workers have for a second checkpoint; None: it is the model itself."""
        own = await self._farm.checkpoint(wanted)
        if own is not None and own.model == model:
            return None
        return await self._farm.call(self._farm.service.other_checkpoint, field, wanted, model)

    async def _for_checkpoint(self, body: RenderRequest, model: str, lenient: Leniency) -> RenderRequest:
        """`body` without fields that its checkpoint cannot use."""
        given = {name: getattr(body, name, None) for name in _FOR_FEW}
        wanted = {name: value for name, value in given.items() if value not in (None, _FOR_FEW[name])}
        unused = [name for name, value in given.items() if value == _FOR_FEW[name]]
        if wanted:
            checkpoint = await self._farm.served_checkpoint(model)
            for name, value in wanted.items():
                if checkpoint.takes is not None and name not in checkpoint.takes:
                    lenient.set_aside(name, value, f"{checkpoint.name} has no use for it")
                    unused.append(name)
        return body.model_copy(update=dict.fromkeys(unused))


def apply_infotext(
    sent: RenderRequest, stored: Mapping[str, Any], *, takes_checkpoint: bool
) -> RenderRequest:
    """The request, with its infotext's values for fields that it leaves out.

    Args:
        stored: the tenant's options, with A1111's defaults.
        takes_checkpoint: the hash in the text chooses the checkpoint, unless the request names one.

    Raises:
        Refused: the text has a value that no request may have.
    """
    if not sent.infotext:
        return sent
    is_txt2img = isinstance(sent, Txt2ImgRequest)
    fields, options = request_fields(sent.infotext, stored, txt2img=is_txt2img)
    if takes_checkpoint and (digest := read_pairs(sent.infotext).get("Model hash")):
        options["sd_model_checkpoint"] = digest
    soft = {} if is_txt2img else soft_inpainting_arguments(sent.infotext)
    left_out = {name: value for name, value in fields.items() if name not in sent.model_fields_set}
    if options:
        left_out["override_settings"] = options | (sent.override_settings or {})
    if soft and not any(name.lower() == SOFT_INPAINTING for name in sent.alwayson_scripts):
        left_out["alwayson_scripts"] = {SOFT_INPAINTING: {"args": soft}, **sent.alwayson_scripts}
    try:
        return type(sent).model_validate({**sent.model_dump(exclude_unset=True), **left_out})
    except ValidationError as error:
        raise refusal(error, "infotext.") from None


def _with_sampler(body: RenderRequest, lenient: Leniency) -> RenderRequest:
    """`body` with a sampler's name: old clients send an index, for which A1111 uses its first sampler."""
    number = body.sampler_name or body.sampler_index
    if not number.isdecimal():
        return body
    lenient.set_aside("sampler_index", number, "this is no name; DPM++ 2M renders it, as in A1111")
    return body.model_copy(update={"sampler_name": "DPM++ 2M"})
