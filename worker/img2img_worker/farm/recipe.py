"""How one image of a job is made: what the engine is to render for it, and what becomes of the answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from PIL import Image

from img2img_shared.job import Input, Job, result_key
from img2img_shared.params import Params
from img2img_shared.prompt_tags import strip_comments
from img2img_shared.roles import Role, check_roles
from img2img_shared.seeds import shifted
from img2img_worker.engine.render import Render
from img2img_worker.farm import hires
from img2img_worker.farm.control import ControlTools, PreparedUnits, detected
from img2img_worker.farm.control_cache import ControlCache
from img2img_worker.farm.extras import postprocessed
from img2img_worker.farm.hires import Steps, both_passes
from img2img_worker.farm.side_by_side import side_by_side
from img2img_worker.farm.soft_inpainting import soft_inpainted
from img2img_worker.models.prompts import conditioning, padding
from img2img_worker.models.prompts.options import PromptOptions
from img2img_worker.pictures.colour import correct_colours
from img2img_worker.pictures.composite import Composed, compose
from img2img_worker.pictures.control.preprocessors import Depth, no_depth
from img2img_worker.pictures.decode import Decoder
from img2img_worker.pictures.extras import Pixels, RestoreFaces
from img2img_worker.pictures.infotext import encode_picture, infotext
from img2img_worker.pictures.outpainting import GrowingPicture
from img2img_worker.pictures.prepare import prepare
from img2img_worker.pictures.size import fitted_size
from img2img_worker.pictures.upscale import RunNetwork
from img2img_worker.sampling import account as sampling_account
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.live import plan_of
from img2img_worker.sampling.plan_key import PlanKey

#: files by store key, the finished picture's last
Files = Mapping[str, bytes]
#: returns the files that are made of its renders; what it yields later may depend on what came before
Recipe = Steps[Files]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a worker serves: a checkpoint, under the name that jobs call it by."""

    #: as in jobs, and so in the ledger's keys
    model: str
    #: as in a picture's infotext
    title: str
    model_hash: str | None
    #: file name and short hash of an image's VAE; None: its own
    vae: Callable[[Params], tuple[str, str] | None] = lambda _: None
    #: reads pictures for all of the worker's threads
    decoder: Decoder
    #: and remembers what preprocessors have made of them
    control_cache: ControlCache = field(default_factory=ControlCache)
    #: tells how near pixels are, by a module's network
    depth: Depth = no_depth
    #: pixels to a latent cell, each way
    vae_factor: int
    #: see `Family`
    native_side: int = 512
    side_multiple: int = 8
    #: prompt to the short hash of each LoRA that it names, as in a picture's infotext
    lora_hashes: Callable[[str], Mapping[str, str]]
    #: texts, their emphasis and LoRAs to the short hash of each textual inversion that they name
    inversion_hashes: Callable[[Sequence[str], str, Sequence[str]], Mapping[str, str]]
    #: the noise levels for latents of a size
    levels: Callable[[tuple[int, int]], NoiseLevels]
    #: tokens of the contexts of texts that are encoded together
    context_length: Callable[[Sequence[str], PromptOptions], int]
    #: whether it was trained to see a mask, and what that leaves
    inpaints: bool = False
    #: a picture through the network of an upscaler's name, once, in tiles as parameters say
    run_upscaler: Callable[[str, Image.Image, Params], Image.Image]
    #: a picture with its faces restored, by a restorer's name and at CodeFormer's weight
    restore_faces: RestoreFaces
    #: name and short hash of another checkpoint that is there; raises `Refused` where it is not
    other_title: Callable[[str], str] = str

    @property
    def own_title(self) -> str:
        """Its own."""
        return f"{self.title} [{self.model_hash}]"

    def run_network(self, params: Params) -> RunNetwork:
        """`run_upscaler` for an image with these parameters."""
        return lambda name, image: self.run_upscaler(name, image, params)

    @property
    def control_tools(self) -> ControlTools:
        """What control pictures are made with."""
        return ControlTools(decoder=self.decoder, cache=self.control_cache, depth=self.depth)


def ingredients(job: Job, item: Input) -> dict[Role, str]:
    """Store keys of the pictures that `recipe` wants, by their roles.

    Raises:
        Refused: one is missing, or would not be looked at.
    """
    found = job.pictures_of(item)
    check_roles(found, job.params_of(item))
    return found


def recipe(job: Job, item: Input, index: int, pictures: Mapping[Role, bytes], served: Served) -> Recipe:
    """Makes image `index` of `job`, whose input is `item`. It knows of no ledger, no store and no engine.

    Args:
        pictures: the `ingredients`, as they lie in the store.

    Raises:
        Refused: names the field: a picture that cannot be read, parameters that do not go with it.
    """
    params = job.params_of(item)
    if params.extras:
        run = served.run_network(params)
        data = postprocessed(pictures["image"], params, served.decoder, run, served.restore_faces)
        return {result_key(job.id, index, params.output_format): data}
    if params.control_only:
        shown = detected(params, pictures, served.control_tools)
        data = encode_picture(shown, params.output_format, quality=params.quality)
        return {result_key(job.id, index, params.output_format): data}
    if params.txt2img:  # there is no picture whose shape it could have
        params = _sized(params, (served.native_side, served.native_side), served)
    seed, subseed = job.seeds(index, item)
    render = Render(
        params=params,
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        seed=seed,
        subseed=subseed,
        latent_size=(params.height // served.vae_factor, params.width // served.vae_factor),
    )
    if params.refiner_checkpoint and served.other_title(params.refiner_checkpoint) == served.own_title:
        render = replace(render, params=params.model_copy(update={"refiner_checkpoint": None}))
    if params.txt2img:
        made = yield from from_noise(render, pictures, served)
    elif params.outpaint:
        made = yield from outpainted(render, pictures, served)
    else:
        made = yield from from_picture(render, pictures, served)
    composed, text = made.composed, _infotext(made, served)
    beside = {"mask": composed.mask, "mask-composite": composed.mask_composite}
    form = partial(encode_picture, output_format=params.output_format, quality=params.quality)
    beside |= made.maps
    files = {name: form(each) for name, each in beside.items() if each}
    files[""] = form(composed.picture, infotext=text)
    return {result_key(job.id, index, params.output_format, name): data for name, data in files.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A finished picture, and the renders that it came from, one after the other."""

    composed: Composed
    passes: tuple[Render, ...]
    #: whether a mask came with the picture, were it an empty one
    has_mask: bool = False
    #: the control pictures that are wanted, by what they are called beside it
    maps: Mapping[str, Image.Image] = field(default_factory=dict)


def from_noise(render: Render, pictures: Mapping[Role, bytes], served: Served) -> Steps[Made]:
    """txt2img, with its hires fix where that is wanted."""
    params = render.params
    sizes = [(params.width, params.height)]
    if params.enable_hr:
        sizes.append(hires.final_size(params, served.vae_factor))
    units = PreparedUnits(params, sizes, pictures, served.control_tools)
    render = replace(render, controls=units.controls())
    passes: tuple[Render, ...] = (render,)
    if params.enable_hr:
        wanted = params.hr_checkpoint_name
        is_own = wanted in (None, served.model) or served.other_title(wanted) == served.own_title
        first, second, pixels = yield from both_passes(
            render,
            served.vae_factor,
            units.controls(1),
            served.run_network(params),
            checkpoint=None if is_own else wanted,
        )
        passes = (first, second)
    else:
        (pixels,) = yield [render]
    result = _with_faces(units.finished(pixels), params, served)
    return Made(composed=Composed(picture=Image.fromarray(result)), passes=passes, maps=units.maps)


def outpainted(render: Render, pictures: Mapping[Role, bytes], served: Served) -> Steps[Made]:
    """img2img of the tiles of a picture that grows, each with the next seed."""
    blur = 2 * render.params.outpaint_mask_blur
    changes = {"inpaint_full_res": False, "mask_blur_x": blur, "mask_blur_y": blur}
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = _sized(render.params, picture.size, served).model_copy(update=changes)
        tiles = GrowingPicture(picture, params).tiles()
    ways = []
    for number, tile in enumerate(tiles):
        own = {"image": encode_picture(tile.picture, "png"), "mask": encode_picture(tile.mask, "png")}
        each = replace(render, params=params, seed=shifted(render.seed, number))
        ways.append(from_picture(each, {**pictures, **own}, served, tile.latent_mask))
    made = yield from side_by_side(ways)
    results = [each.composed.picture for each in made]
    with served.decoder.decoded(pictures["image"], None) as (picture, _):  # as in `from_picture`
        finished = GrowingPicture(picture, params).finished(results)
    return replace(made[0], composed=Composed(picture=finished), maps={})


def from_picture(
    render: Render,
    pictures: Mapping[Role, bytes],
    served: Served,
    repainted: Image.Image | None = None,
) -> Steps[Made]:
    """img2img, with a mask if there is one.

    Args:
        repainted: of a masked picture, what is repainted, where that is not what shows (L, of its size).
    """
    image, mask = pictures["image"], pictures.get("mask")
    run = served.run_network(render.params)
    with served.decoder.decoded(image, mask) as decoded:
        params = _sized(render.params, decoded[0].size, served)
        prepared = prepare(*decoded, params, served.vae_factor, run)
        if repainted is not None:
            plain = {"mask_blur_x": 0, "mask_blur_y": 0, "inpainting_mask_invert": 0}
            sharp = params.model_copy(update=plain)
            inner = prepare(decoded[0], repainted, sharp, served.vae_factor, run)
            prepared = replace(inner, cond_mask=prepared.cond_mask)
    units = PreparedUnits(params, [(params.width, params.height)], pictures, served.control_tools)
    render = replace(
        render,
        params=params,
        pixels=prepared.pixels,
        latent_size=prepared.latent_size,
        mask=prepared.mask,
        cond_mask=prepared.cond_mask,
        controls=units.controls(),
    )
    opening = None
    if params.soft_inpainting and prepared.mask is not None:
        pixels, opening = yield from soft_inpainted(render, prepared.mask)
    else:
        (pixels,) = yield [render]
    result = Image.fromarray(_with_faces(units.finished(pixels), params, served))
    if prepared.colours is not None:
        result = correct_colours(result, prepared.colours)
    composed = Composed(picture=result)
    if prepared.mask is not None:
        # read once more: what a picture of any size takes is not kept for as long as the engine has it
        with served.decoder.decoded(image, mask) as decoded:
            composed = compose(result, *decoded, params, opening, run)
    return Made(composed=composed, passes=(render,), has_mask=mask is not None, maps=units.maps)


def _with_faces(pixels: Pixels, params: Params, served: Served) -> Pixels:
    if not params.restore_faces:
        return pixels
    return served.restore_faces(params.face_restoration_model, pixels, params.code_former_weight)


def _sized(params: Params, size: tuple[int, int], served: Served) -> Params:
    """With the width and height that `fit` asks for."""
    if params.fit is None:
        return params
    width, height = fitted_size(
        size, params.fit, native_side=served.native_side, multiple=served.side_multiple
    )
    return params.model_copy(update={"width": width, "height": height, "fit": None})


def _infotext(made: Made, served: Served) -> str:
    first = made.passes[0]
    hashes: dict[str, str] = {}
    account: dict[str, object] = {}
    for each in made.passes:
        account |= _account(each, served)
        if not each.params.disable_extra_networks:
            hashes |= served.lora_hashes(each.prompt)
    if (
        first.params.sd_vae_decode_method != "Full" and len(made.passes) == 1
    ):  # A1111 does not tell it of hires fix
        account["VAE Decoder"] = first.params.sd_vae_decode_method
    return infotext(
        first.params,
        prompt=strip_comments(first.prompt),
        negative_prompt=strip_comments(first.negative_prompt),
        seed=first.seed,
        subseed=first.subseed,
        model=served.title,
        model_hash=served.model_hash,
        vae=served.vae(first.params),
        inpaints=served.inpaints,
        has_mask=made.has_mask,
        masked=first.mask is not None,
        hires=_hires(made, served),
        lora_hashes=hashes,
        inversion_hashes=_inversion_hashes(first, served),
        account=account,
    )


def _hires(made: Made, served: Served) -> dict[str, object]:
    if len(made.passes) == 1:
        return {}
    first, second = made.passes
    other = second.checkpoint
    return hires.told(first, second, served.own_title if other is None else served.other_title(other))


def _inversion_hashes(render: Render, served: Served) -> Mapping[str, str]:
    if not render.params.textual_inversion_add_hashes_to_infotext:
        return {}
    prompts = conditioning.conditioning(render.prompt, render.negative_prompt, render.params)
    loras = [lora.name for lora in prompts.loras]
    return served.inversion_hashes(prompts.texts, render.params.emphasis, loras)


def _account(render: Render, served: Served) -> dict[str, object]:
    """What is told of how prompts were read and a picture was sampled."""
    params, levels = render.params, served.levels(render.latent_size)
    plan = plan_of(PlanKey.of(params), levels)
    refiner = params.refiner_checkpoint and served.other_title(params.refiner_checkpoint)
    prompts = conditioning.conditioning(render.prompt, render.negative_prompt, params)
    options = PromptOptions.of(params, [lora.name for lora in prompts.loras])
    return {
        **conditioning.told(render.prompt, render.negative_prompt, params),
        **sampling_account.told(params, plan, levels, refiner),
        **padding.told(prompts, params, lambda texts: served.context_length(texts, options)),
    }
