"""How one image of a job is made: what the engine is to render for it, and what becomes of the answers."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from img2img_shared.job import Input, Job, result_key
from img2img_shared.prompt_tags import strip_comments
from img2img_worker.engine.engine import Pixels, Render
from img2img_worker.models.prompts import conditioning
from img2img_worker.pictures.colour import correct_colours
from img2img_worker.pictures.composite import Composed, compose
from img2img_worker.pictures.decode import Decoder
from img2img_worker.pictures.infotext import encode_picture, infotext
from img2img_worker.pictures.prepare import prepare
from img2img_worker.sampling import account
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import PlanKey, compile_plan

#: files by store key, the finished picture's last
Files = Mapping[str, bytes]
#: Yields renders that may run side by side, is sent their pictures in the same order, and returns the files
#: that are made of them. What it yields later may depend on what came before.
Recipe = Generator[Sequence[Render], Sequence[Pixels], Files]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a worker serves: a checkpoint, under the name that jobs call it by."""

    #: as in jobs, and so in the ledger's keys
    model: str
    #: as in a picture's infotext
    title: str
    model_hash: str | None
    #: reads pictures for all of the worker's threads
    decoder: Decoder
    #: pixels to a latent cell, each way
    vae_factor: int
    #: prompt to the short hash of each LoRA that it names, as in a picture's infotext
    lora_hashes: Callable[[str], Mapping[str, str]]
    #: the noise levels for latents of a size
    levels: Callable[[tuple[int, int]], NoiseLevels]


def ingredients(job: Job, item: Input) -> tuple[str, ...]:
    """Store keys of the pictures that `recipe` wants."""
    mask = item.mask or job.mask
    return (item.image,) if mask is None else (item.image, mask)


def recipe(job: Job, item: Input, index: int, blobs: Mapping[str, bytes], served: Served) -> Recipe:
    """Makes image `index` of `job`, whose input is `item`. It knows of no ledger, no store and no engine.

    Args:
        blobs: what lies in the store under each of the `ingredients`.

    Raises:
        Refused: names the field: a picture that cannot be read, parameters that do not go with it.
    """
    params = job.params
    seed, subseed = job.seeds(index, item.seed)
    prompt = params.prompt if item.prompt is None else item.prompt
    negative_prompt = params.negative_prompt if item.negative_prompt is None else item.negative_prompt
    lora_hashes = {} if params.disable_extra_networks else served.lora_hashes(prompt)
    image, *masks = (blobs[key] for key in ingredients(job, item))
    mask = masks[0] if masks else None
    with served.decoder.decoded(image, mask) as pictures:
        prepared = prepare(*pictures, params, served.vae_factor)
    render = Render(
        params=params,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        subseed=subseed,
        pixels=prepared.pixels,
        latent_size=prepared.latent_size,
        mask=prepared.mask,
        cond_mask=prepared.cond_mask,
    )
    (pixels,) = yield [render]
    text = infotext(
        params,
        prompt=strip_comments(prompt),
        negative_prompt=strip_comments(negative_prompt),
        seed=seed,
        subseed=subseed,
        model=served.title,
        model_hash=served.model_hash,
        masked=prepared.mask is not None,
        lora_hashes=lora_hashes,
        account=_account(render, served.levels(prepared.latent_size)),
    )
    result = Image.fromarray(pixels)
    if prepared.colours is not None:
        result = correct_colours(result, prepared.colours)
    composed = Composed(picture=result)
    if prepared.mask is not None:
        # read once more: what a picture of any size takes is not kept for as long as the engine has it
        with served.decoder.decoded(image, mask) as pictures:
            composed = compose(result, *pictures, params)
    beside = {"mask": composed.mask, "mask-composite": composed.mask_composite}
    form = partial(encode_picture, output_format=params.output_format, quality=params.quality)
    files = {name: form(each) for name, each in beside.items() if each}
    files[""] = form(composed.picture, infotext=text)
    return {result_key(job.id, index, params.output_format, name): data for name, data in files.items()}


def _account(render: Render, levels: NoiseLevels) -> dict[str, object]:
    """What is told of how prompts were read and a picture was sampled."""
    params = render.params
    plan = compile_plan(PlanKey.of(params), levels)
    prompts = conditioning.told(render.prompt, render.negative_prompt, params)
    return prompts | account.told(params, plan, levels)
