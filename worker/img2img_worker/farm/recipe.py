"""How one image of a job is made: which renders the engine does for it, and what is done with the results."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from img2img_shared.control import POSES_TEXT
from img2img_shared.job import Input, Job, loop_name, result_key
from img2img_shared.params import Params
from img2img_shared.prompt_tags import strip_comments
from img2img_shared.roles import Role, check_roles
from img2img_worker.engine.render import Render
from img2img_worker.farm import hires_recipe
from img2img_worker.farm.extras_recipe import postprocess_file
from img2img_worker.farm.growing_recipe import grow_sides
from img2img_worker.farm.loopback_recipe import loopback
from img2img_worker.farm.picture_recipe import FinishedPicture, img2img, txt2img, with_size
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.farm.tiles_recipe import outpaint, sd_upscale
from img2img_worker.farm.unit_pictures import detect
from img2img_worker.models.prompts import conditioning, context_padding
from img2img_worker.models.prompts.prompt_options import PromptOptions
from img2img_worker.pictures.infotext import infotext
from img2img_worker.pictures.picture_file import encode_picture
from img2img_worker.sampling import account as sampling_account
from img2img_worker.sampling.live import plan_of

#: files by store key, the finished picture's last
Files = Mapping[str, bytes]
#: returns the files that are made of its renders; what it yields later may depend on what came before
Recipe = RenderSteps[Files]


def ingredients(job: Job, item: Input) -> dict[Role, str]:
    """Store keys of the pictures that `recipe` wants, by their roles.

    Raises:
        Refused: one is missing, or would not be looked at.
    """
    found = job.pictures_of(item)
    check_roles(found, job.params_of(item))
    return found


def recipe(
    job: Job,
    item: Input,
    index: int,
    pictures: Mapping[Role, bytes],
    served: Served,
    tiles: Iterable[bytes] | None = None,
) -> Recipe:
    """Make image `index` of `job`, whose input is `item`. It knows of no ledger, no store and no engine.

    Args:
        pictures: the `ingredients`' files, as they are in the store.
        tiles: the rendered tiles, if others have rendered them (see `split_into_tiles`).

    Raises:
        Refused: names the field: a picture that cannot be read, parameters that do not go with it.
    """
    params = job.params_of(item)
    if params.extras:
        run = served.run_network(params)
        data = postprocess_file(pictures["image"], params, served.decoder, run, served.restore_faces)
        return {result_key(job.id, index, params.output_format): data}
    if params.control_only:
        found = detect(params, pictures, served.control_tools)
        texts = {} if found.poses is None else {POSES_TEXT: json.dumps(found.poses.as_openpose())}
        data = encode_picture(found.map, params.output_format, quality=params.quality, texts=texts)
        return {result_key(job.id, index, params.output_format): data}
    finished = yield from _make(_render(job, item, index, served), pictures, served, tiles)
    files = _files(finished, params, served)
    return {result_key(job.id, index, params.output_format, name): data for name, data in files.items()}


def _render(job: Job, item: Input, index: int, served: Served) -> Render:
    """An image's render as its job describes it, without what depends on its pictures."""
    params = job.params_of(item)
    if params.txt2img:  # there is no picture whose shape it could have
        params = with_size(params, (served.native_side, served.native_side), served)
    seed, subseed = job.seeds(index, item)
    # a hires fix' second pass may have another checkpoint, which this one refines
    refiner = None if params.enable_hr else params.refiner_checkpoint
    if refiner and served.other_title(refiner) == served.own_title:
        params = params.model_copy(update={"refiner_checkpoint": None})
    return Render(
        params=params,
        pinned=served.pinned,
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        seed=seed,
        subseed=subseed,
        latent_size=(params.height // served.vae_factor, params.width // served.vae_factor),
    )


def _make(
    render: Render, pictures: Mapping[Role, bytes], served: Served, tiles: Iterable[bytes] | None
) -> RenderSteps[FinishedPicture]:
    """The picture, made by the recipe for its parameters."""
    params = render.params
    if params.txt2img:
        return (yield from txt2img(render, pictures, served))
    if params.outpaint and params.outpaint_method == "noise":
        return (yield from grow_sides(render, pictures, served))
    if params.outpaint:
        return (yield from outpaint(render, pictures, served, tiles))
    if params.loopback:
        return (yield from loopback(render, pictures, served))
    if params.sd_upscale:
        return (yield from sd_upscale(render, pictures, served, tiles))
    return (yield from img2img(render, pictures, served))


def _files(finished: FinishedPicture, params: Params, served: Served) -> dict[str, bytes]:
    """All files of a finished picture, by their names beside it; its own is last."""
    composed, text = finished.composed, _infotext(finished, served)
    beside = {"mask": composed.mask, "mask-composite": composed.mask_composite}
    form = partial(encode_picture, output_format=params.output_format, quality=params.quality)
    beside |= finished.maps
    files = {name: form(each) for name, each in beside.items() if each}
    for number, each in enumerate(finished.earlier):
        files[loop_name(number)] = form(each.composed.picture, infotext=_infotext(each, served))
    files[""] = form(composed.picture, infotext=text)
    return files


def _infotext(finished: FinishedPicture, served: Served) -> str:
    first = finished.passes[0]
    uncommented = partial(strip_comments, enabled=first.params.enable_prompt_comments)
    hashes: dict[str, str] = {}
    account: dict[str, object] = {}
    for each in finished.passes:
        account |= _account(each, served)
        if each.params.lora_add_hashes_to_infotext and not each.params.disable_extra_networks:
            hashes |= served.lora_hashes(uncommented(each.prompt), served.pinned)
    if (
        first.params.sd_vae_decode_method != "Full" and len(finished.passes) == 1
    ):  # A1111 does not tell it of hires fix
        account["VAE Decoder"] = first.params.sd_vae_decode_method
    refiner = next(filter(None, (each.params.refiner_checkpoint for each in finished.passes)), None)
    return infotext(
        first.params.model_copy(update={"refiner_checkpoint": refiner}),
        prompt=uncommented(first.prompt),
        negative_prompt=uncommented(first.negative_prompt),
        seed=first.seed,
        subseed=first.subseed,
        model=served.title,
        model_hash=served.model_hash,
        float8=served.float8,
        vae=served.vae(first.params, served.pinned),
        inpaints=_inpaints(finished, served),
        init_hash=first.init_hash,
        has_mask=finished.has_mask,
        masked=first.mask is not None,
        hires=_hires(finished, served),
        lora_hashes=hashes,
        inversion_hashes=_inversion_hashes(first, served),
        account=account,
    )


def _inpaints(finished: FinishedPicture, served: Served) -> bool:
    """Whether a checkpoint was shown what a mask leaves, as A1111 has it after the last pass."""
    if len(finished.passes) == 1:
        return served.inpaints
    first, second = finished.passes
    other = second.checkpoint
    if served.inpaints if other is None else served.other_inpaints(other):
        return True
    # else what the first pass has left, unless A1111 looks at the checkpoint once more
    looks_again = hires_recipe.is_latent(first.params) and first.params.inpainting_mask_weight == 1
    return served.inpaints and not looks_again


def _hires(finished: FinishedPicture, served: Served) -> dict[str, object]:
    if len(finished.passes) == 1:
        return {}
    first, second = finished.passes
    other = second.checkpoint
    return hires_recipe.infotext_pairs(
        first, second, served.own_title if other is None else served.other_title(other)
    )


def _inversion_hashes(render: Render, served: Served) -> list[tuple[str, str]]:
    """Those of each text that ``AND`` joins, the last one first; then the negative prompt's, if any is new.

    (A1111 tells the negative prompt's only if the request before had another one.)
    """
    # the old way of reading prompts tells none, in A1111
    is_old = render.params.use_old_emphasis_implementation
    if is_old or not render.params.textual_inversion_add_hashes_to_infotext:
        return []
    prompts = conditioning.conditioning(render.prompt, render.negative_prompt, render.params)
    loras = [lora.name for lora in prompts.loras]

    def named(schedule: conditioning.Schedule) -> Sequence[tuple[str, str]]:
        return served.inversion_hashes(schedule.texts, render.params.emphasis, loras, served.pinned)

    told = [pair for part in reversed(prompts.positive) for pair in named(part)]
    negative = named(prompts.negative)
    return told if set(negative) <= set(told) else [*told, *negative]


def _account(render: Render, served: Served) -> dict[str, object]:
    """The infotext's entries on how prompts were read and a picture was sampled."""
    params, levels = render.params, served.levels(render.latent_size)
    plan = plan_of(render.plan_key, levels)
    refiner = params.refiner_checkpoint and served.other_title(params.refiner_checkpoint)
    prompts = conditioning.conditioning(render.prompt, render.negative_prompt, params)
    reading = conditioning.conditioning(render.reading_prompt, "", params)
    options = PromptOptions.of(params, [lora.name for lora in reading.loras], served.pinned)
    return {
        **conditioning.infotext_pairs(render.prompt, render.negative_prompt, params),
        **sampling_account.infotext_pairs(params, plan, levels, refiner),
        **context_padding.infotext_pairs(
            prompts, params, lambda texts: served.context_length(texts, options)
        ),
    }
