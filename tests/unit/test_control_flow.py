"""Control networks for SD 3 and Flux: what diffusers' pipelines render, in one engine with others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.engine.render import Control
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.control.flow_networks import FlowControlNet, FluxControlNet
from img2img_worker.models.families.family import Family
from tests import checkpoints
from tests.unit.control_files import control_net, write_diffusers, write_original
from tests.unit.control_files_flow import (
    flux_control,
    sd3_control,
    write_file,
    write_folder,
    write_stability,
    write_without,
    write_xlabs,
)
from tests.unit.engine_toys import render
from tests.unit.mean_only import mean_only

PROMPT, NEGATIVE, STEPS, SIZE = "the red cat, a dog", "dog", 5, (64, 96)
#: of the second of Flux' unions' kinds
DEPTH = 2
#: Stability's for SD 3.5 Large
BLIND = {"joint_attention_dim": None, "use_pos_embed": False, "force_zeros_for_pooled_projection": False}
HINTED = {"num_layers": 2, "num_single_layers": 0, "patch_size": 2, "conditioning_embedding_channels": 16}


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A checkpoint with its control networks in a folder."""

    checkpoint: Path
    folder: Path
    family: Family


def opened(factory: pytest.TempPathFactory, build: Any) -> Opened:
    checkpoint = checkpoints.cached(factory, build)
    folder = factory.mktemp("ControlNet")
    family = open_checkpoint(checkpoint, control_folders=(folder,))
    return Opened(checkpoint=checkpoint, folder=folder, family=family)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    found = opened(tmp_path_factory, checkpoints.sd3)
    make = partial(sd3_control, found.checkpoint)
    write_file(make(3), found.folder / "instantx.safetensors")
    write_folder(make(4, force_zeros_for_pooled_projection=False), found.folder / "pooled")
    write_folder(make(4), found.folder / "old")
    write_without(found.folder / "old", "force_zeros_for_pooled_projection")
    write_file(make(5, extra_conditioning_channels=1), found.folder / "inpainting.safetensors")
    write_folder(make(6, num_layers=2, **BLIND), found.folder / "large-depth")
    write_folder(make(6, num_layers=2, **BLIND), found.folder / "large-canny", max_shard_size="200KB")
    write_stability(make(6, num_layers=2, **BLIND), found.folder / "stability.safetensors", kind=1)
    return found


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    found = opened(tmp_path_factory, checkpoints.flux_dev)
    make = partial(flux_control, found.checkpoint)
    write_file(make(3, num_mode=7), found.folder / "union.safetensors")
    write_folder(make(4, num_single_layers=0, guidance_embeds=False), found.folder / "double")
    write_folder(make(5, **HINTED), found.folder / "hinted")
    write_xlabs(make(5, **HINTED), found.folder / "xlabs.safetensors")
    write_file(make(7, num_layers=0, num_single_layers=2), found.folder / "single.safetensors")
    return found


def picture(seed: int = 5, size: tuple[int, int] = SIZE) -> Pixels:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 3] = 200
    return pixels


def masked(seed: int = 5) -> Pixels:
    mask = np.where(np.arange(SIZE[0]) < SIZE[0] // 2, np.uint8(255), np.uint8(0))
    return np.concatenate([picture(seed), np.broadcast_to(mask[None, :, None], (*SIZE[::-1], 1))], axis=2)


def controlled(*units: dict[str, Any], seed: int = 7, scale: float = 1.0, pixels: Any = None) -> Render:
    """Of an image of that seed."""
    controls = tuple(
        Control(unit=ControlUnit(**fields), picture=picture(5 + number) if pixels is None else pixels)
        for number, fields in enumerate(units)
    )
    plain = render(
        seed,
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        width=SIZE[0],
        height=SIZE[1],
        steps=STEPS,
        scheduler="Simple",
        cfg_scale=scale,
        denoising_strength=1 - 0.5 / STEPS,
    )
    return replace(plain, controls=controls)


def rendered(opened: Opened, *renders: Render, **more: Any) -> list[Pixels]:
    with Engine(opened.family, **more) as engine:
        return [future.result() for future in [engine.submit(each) for each in renders]]


def difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def pipeline_of(kind: Any, opened: Opened, network: Any) -> Any:
    lacks_t5 = "3" in kind.__name__ and not (opened.checkpoint / "text_encoder_3").exists()
    missing = {"text_encoder_3": None, "tokenizer_3": None} if lacks_t5 else {}
    found = kind.from_pretrained(
        opened.checkpoint, controlnet=network, local_files_only=True, low_cpu_mem_usage=False, **missing
    )
    found.set_progress_bar_config(disable=True)
    return mean_only(found)


def of_sd3(opened: Opened, network: Any, scale: float = 3.0, **more: Any) -> NDArray[Any]:
    """What diffusers' pipeline renders of `controlled`'s noise."""
    kind: Any = diffusers.StableDiffusion3ControlNetPipeline
    if "control_mask" in more:
        kind = diffusers.StableDiffusion3ControlNetInpaintingPipeline
    pipeline = pipeline_of(kind, opened, network)
    if pipeline.scheduler.config.use_dynamic_shifting:  # which this pipeline knows nothing of
        family: Any = opened.family
        shift = family.shift.at(SIZE[0] * SIZE[1] // 16**2)
        pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    levels = more.pop("levels", None)
    if levels is not None:
        pipeline.image_processor = levels
    noise = torch.randn(1, 16, SIZE[1] // 8, SIZE[0] // 8, generator=torch.Generator().manual_seed(7))
    shown: dict[str, Any] = {"control_image": Image.fromarray(picture())} | more
    answer = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        latents=noise,
        guidance_scale=scale,
        num_inference_steps=STEPS,
        sigmas=np.linspace(1, 1 / STEPS, STEPS).tolist(),
        max_sequence_length=77,
        width=SIZE[0],
        height=SIZE[1],
        output_type="np",
        **shown,
    ).images[0]
    floored: NDArray[Any] = np.floor(answer * 255)
    return floored


def of_flux(opened: Opened, network: Any, **more: Any) -> NDArray[Any]:
    """The same of Flux', which begins with the init image."""
    pipeline = pipeline_of(diffusers.FluxControlNetImg2ImgPipeline, opened, network)
    pixels = controlled().pixels
    assert pixels is not None
    shown: dict[str, Any] = {"control_image": Image.fromarray(picture())} | more
    answer = pipeline(
        PROMPT,
        image=Image.fromarray(pixels),
        strength=1.0,
        guidance_scale=3.5,
        num_inference_steps=STEPS,
        sigmas=np.linspace(1, 1 / STEPS, STEPS).tolist(),
        generator=torch.Generator().manual_seed(7),
        width=SIZE[0],
        height=SIZE[1],
        output_type="np",
        **shown,
    ).images[0]
    floored: NDArray[Any] = np.floor(answer * 255)
    return floored


class Canny(diffusers.image_processor.VaeImageProcessor):  # type: ignore[misc]  # it says nothing of its types
    """What the model card of Stability's network for edges has before the VAE."""

    def __init__(self) -> None:
        super().__init__(do_normalize=False)

    def preprocess(self, *what: Any, **more: Any) -> Any:
        return super().preprocess(*what, **more) * 255 * 0.5 + 0.5

    def postprocess(self, image: Any, **more: Any) -> Any:
        return super().postprocess(image, do_denormalize=[True] * len(image), **more)


SD3_KINDS: dict[str, Callable[[Path], Any]] = {
    "instantx": lambda checkpoint: sd3_control(checkpoint, 3),
    "pooled": lambda checkpoint: sd3_control(checkpoint, 4, force_zeros_for_pooled_projection=False),
    "old": lambda checkpoint: sd3_control(checkpoint, 4),
    "large-depth": lambda checkpoint: sd3_control(checkpoint, 6, num_layers=2, **BLIND),
}


@pytest.mark.parametrize("name", SD3_KINDS)
def test_a_picture_is_that_of_diffusers_pipeline_for_sd3(name: str, sd3: Opened) -> None:
    wanted = of_sd3(sd3, SD3_KINDS[name](sd3.checkpoint), controlnet_conditioning_scale=0.7)
    found, plain = rendered(sd3, controlled({"model": name, "weight": 0.7}, scale=3), controlled(scale=3))
    assert difference(found, wanted) < 0.05
    assert difference(found, plain) > 1


@pytest.mark.parametrize("name", ["large-canny", "stability"])
def test_stabilitys_network_for_edges_sees_them_as_it_was_trained(name: str, sd3: Opened) -> None:
    network = sd3_control(sd3.checkpoint, 6, num_layers=2, **BLIND)
    wanted = of_sd3(sd3, network, levels=Canny())
    found, other = rendered(
        sd3, controlled({"model": name}, scale=3), controlled({"model": "large-depth"}, scale=3)
    )
    assert difference(found, wanted) < 0.05
    assert difference(found, other) > 1


def test_a_network_that_inpaints_sees_what_is_kept(sd3: Opened) -> None:
    network = sd3_control(sd3.checkpoint, 5, extra_conditioning_channels=1)
    mask = Image.fromarray(masked()[:, :, 3])
    wanted = of_sd3(sd3, network, control_mask=mask)
    unit = {"model": "inpainting", "module": "inpaint"}
    (found,) = rendered(sd3, controlled(unit, scale=3, pixels=masked()))
    assert difference(found, wanted) < 0.05


FLUX_KINDS: dict[str, Callable[[Path], Any]] = {
    "double": lambda checkpoint: flux_control(checkpoint, 4, num_single_layers=0, guidance_embeds=False),
    "hinted": lambda checkpoint: flux_control(checkpoint, 5, **HINTED),
    "xlabs": lambda checkpoint: flux_control(checkpoint, 5, **HINTED),
    "single": lambda checkpoint: flux_control(checkpoint, 7, num_layers=0, num_single_layers=2),
}


@pytest.mark.parametrize("name", FLUX_KINDS)
def test_a_picture_is_that_of_diffusers_pipeline_for_flux(name: str, flux: Opened) -> None:
    wanted = of_flux(flux, FLUX_KINDS[name](flux.checkpoint), controlnet_conditioning_scale=0.7)
    found, plain = rendered(flux, controlled({"model": name, "weight": 0.7}), controlled())
    assert difference(found, wanted) < 0.05
    assert difference(found, plain) > 1


def test_a_network_for_sd35_has_the_norms_and_second_attentions_of_its_checkpoint(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    sd35 = opened(tmp_path_factory, checkpoints.sd35)
    network = sd3_control(sd35.checkpoint, 3)
    write_file(network, sd35.folder / "dual.safetensors")
    wanted = of_sd3(sd35, network)
    found, plain = rendered(sd35, controlled({"model": "dual"}, scale=3), controlled(scale=3))
    assert difference(found, wanted) < 0.05
    assert difference(found, plain) > 1


def test_a_union_for_flux_is_told_what_it_sees(flux: Opened) -> None:
    network = flux_control(flux.checkpoint, 3, num_mode=7)
    wanted = of_flux(flux, network, control_mode=DEPTH, controlnet_conditioning_scale=1.0)
    depth, grey = rendered(
        flux,
        controlled({"model": "union", "union_control_type": "Depth"}),
        controlled({"model": "union", "union_control_type": "Gray"}),
    )
    assert difference(depth, wanted) < 0.05
    assert difference(depth, grey) > 0.1
    with pytest.raises(
        Refused,
        match="union needs to know the kind of control picture: Hard Edge, Tile, Depth, Blur, OpenPose, Gray",
    ):
        flux.family.controls.find("union")


def test_several_units_add_up(flux: Opened) -> None:
    # diffusers takes those of both kinds alone
    both = [flux_control(flux.checkpoint, seed) for seed in (11, 12)]
    for number, network in enumerate(both):
        write_file(network, flux.folder / f"both{number}.safetensors")
    multi = diffusers.FluxMultiControlNetModel(both)
    wanted = of_flux(
        flux,
        multi,
        control_image=[Image.fromarray(picture(5)), Image.fromarray(picture(6))],
        control_mode=[None, None],
        controlnet_conditioning_scale=[0.5, 0.8],
    )
    (found,) = rendered(
        flux, controlled({"model": "both0", "weight": 0.5}, {"model": "both1", "weight": 0.8})
    )
    assert difference(found, wanted) < 0.05


def test_residuals_are_spread_over_blocks_as_diffusers_spreads_them(flux: Opened, sd3: Opened) -> None:
    tiny = {
        "attention_head_dim": 16,
        "num_attention_heads": 1,
        "joint_attention_dim": 8,
        "pooled_projection_dim": 8,
        "axes_dims_rope": (4, 6, 6),
    }

    found = flux.family.controls.find("double")
    assert isinstance(found, FluxControlNet)
    vae = found.vae

    def of_flux(**more: Any) -> FluxControlNet:
        return FluxControlNet.of(flux_control(flux.checkpoint, 3, **tiny, **more), key="", vae=vae)

    # the numbers of Flux.1 and of InstantX', Shakker Labs' and XLabs' networks
    union = of_flux(num_layers=5, num_single_layers=10)
    assert [union.behind(0, block, 19) for block in range(19)] == [block // 4 for block in range(19)]
    assert [union.behind(1, block, 38) for block in range(38)] == [5 + block // 4 for block in range(38)]
    second = of_flux(num_layers=6, num_single_layers=0)
    assert [second.behind(0, block, 19) for block in range(19)] == [block // 4 for block in range(19)]
    assert second.behind(1, 3, 38) is None
    hinted = of_flux(**HINTED)
    assert [hinted.behind(0, block, 19) for block in range(19)] == [block % 2 for block in range(19)]
    large = sd3.family.controls.find("large-depth")
    assert isinstance(large, FlowControlNet)
    assert [large.behind(0, block, 5) for block in range(5)] == [0, 0, 0, 1, 1]


UNITS: tuple[tuple[dict[str, Any], ...], ...] = (
    (),
    ({"model": "hinted"},),
    ({"model": "union", "union_control_type": "Depth"},),
    ({"model": "union", "union_control_type": "Gray", "guidance_start": 0.3},),
    ({"model": "double", "guidance_end": 0.5}, {"model": "single", "weight": 0.4}),
    ({"model": "single", "advanced_weighting": (0.9, 0.2)},),
)


def test_in_company_each_picture_is_the_one_it_is_alone(flux: Opened) -> None:
    renders = [controlled(*units, seed=number) for number, units in enumerate(UNITS)]
    single = [rendered(flux, each)[0] for each in renders]
    for one, shared in zip(single, rendered(flux, *renders, slots=8, deterministic=False), strict=True):
        assert difference(one, shared) < 0.05
    exact = [rendered(flux, each, slots=8, deterministic=True)[0] for each in renders]
    for one, shared in zip(exact, rendered(flux, *renders, slots=8, deterministic=True), strict=True):
        assert np.array_equal(one, shared)


def test_a_network_runs_once_for_all_rows_that_use_it(flux: Opened) -> None:
    network = flux.family.controls.find("union", "Depth").network
    calls: list[int] = []
    handle = network.register_forward_pre_hook(
        lambda _, __, given: calls.append(len(given["hidden_states"])), with_kwargs=True
    )
    units = (
        {"model": "union", "union_control_type": "Depth"},
        {"model": "union", "union_control_type": "Blur"},
    )
    try:
        rendered(
            flux,
            *(controlled(unit, seed=seed) for seed, unit in enumerate(units)),
            controlled(),
            slots=8,
            deterministic=False,
        )
    finally:
        handle.remove()
    assert max(calls) == 2
    assert len(calls) < 2 * STEPS


def test_a_region_and_a_start_say_where_and_when(sd3: Opened) -> None:
    plain, all_of_it = rendered(sd3, controlled(scale=3), controlled({"model": "instantx"}, scale=3))
    one = controlled({"model": "instantx"}, scale=3)
    nowhere = replace(one.controls[0], region=np.zeros((10, 20), np.uint8))
    somewhere = replace(one.controls[0], region=np.eye(10, 20, dtype=np.uint8) * 255)
    found = rendered(sd3, *(replace(one, controls=(each,)) for each in (nowhere, somewhere)))
    assert difference(found[0], plain) < 0.05
    assert difference(found[1], plain) > 0.05
    assert difference(found[1], all_of_it) > 0.05
    (late,) = rendered(sd3, controlled({"model": "instantx", "guidance_start": 0.5}, scale=3))
    assert difference(late, plain) > 0.05
    assert difference(late, all_of_it) > 0.05


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        ({"control_mode": "My prompt is more important"}, "networks for SD 3 and Flux have no such modes"),
        ({"control_mode": "ControlNet is more important"}, "advanced_weighting"),
        ({"module": "tile_colorfix"}, "use tile_resample"),
        ({"module": "inpaint_only"}, "use inpaint_global_harmonious"),
        ({"module": "inpaint"}, "this network sees no masks"),
        ({"model": "inpainting"}, "this network repaints what is masked"),
    ],
)
def test_what_means_nothing_to_such_a_network_is_refused(
    unit: dict[str, Any], reason: str, sd3: Opened
) -> None:
    with pytest.raises(Refused, match=reason):
        rendered(sd3, controlled({"model": "instantx", **unit}, pixels=masked()))


def test_a_picture_beyond_a_networks_positions_is_refused(sd3: Opened) -> None:
    write_file(sd3_control(sd3.checkpoint, 3, pos_embed_max_size=5), sd3.folder / "small.safetensors")
    with pytest.raises(Refused, match=r"\(64, 96\).* takes sides of up to 80"):
        rendered(sd3, controlled({"model": "small"}))


def test_networks_for_other_checkpoints_are_named(
    sd3: Opened, flux: Opened, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sd1 = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    write_original(control_net(sd1, 3), tmp_path / "of-sd1.safetensors")
    write_xlabs(flux_control(flux.checkpoint, 5, **HINTED), tmp_path / "of-flux.safetensors")
    write_file(sd3_control(sd3.checkpoint, 3), tmp_path / "of-sd3.safetensors")
    families = {
        "SD 1, 2 and XL": open_checkpoint(sd1, control_folders=(tmp_path,)),
        "SD 3": open_checkpoint(sd3.checkpoint, control_folders=(tmp_path,)),
        "Flux": open_checkpoint(flux.checkpoint, control_folders=(tmp_path,)),
    }
    files = {"SD 1, 2 and XL": "of-sd1", "SD 3": "of-sd3", "Flux": "of-flux"}
    for wanted, family in families.items():
        for given, name in files.items():
            if given == wanted:
                family.controls.find(name)
                continue
            with pytest.raises(Refused, match=f"for {given}; use one for {wanted}, as this checkpoint is"):
                family.controls.find(name)


def test_a_tensor_that_nothing_uses_is_named(sd3: Opened, flux: Opened) -> None:
    for opened, name in ((sd3, "instantx"), (sd3, "stability"), (flux, "union"), (flux, "xlabs")):
        weights = load_file(opened.folder / f"{name}.safetensors")
        save_file({**weights, "stray.weight": torch.zeros(1)}, opened.folder / "more.safetensors")
        with pytest.raises(Refused, match=r"nothing here uses stray\.weight in it"):
            opened.family.controls.find("more")
        lacking = {key: each for key, each in weights.items() if key != "controlnet_blocks.0.bias"}
        save_file(lacking, opened.folder / "less.safetensors")
        with pytest.raises(Refused, match=r"lacks controlnet_blocks\.0\.bias"):
            opened.family.controls.find("less")


def test_a_damaged_file_is_refused_by_its_name(
    sd3: Opened, flux: Opened, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    write_original(control_net(checkpoint, 3), tmp_path / "original.safetensors")
    write_diffusers(control_net(checkpoint, 3), tmp_path / "diffusers.safetensors")
    sd1 = Opened(
        checkpoint=checkpoint,
        folder=tmp_path,
        family=open_checkpoint(checkpoint, control_folders=(tmp_path,)),
    )
    damaged: list[tuple[Opened, str, str]] = [
        (sd1, "original", "control_model.input_hint_block.4.weight"),
        (sd1, "original", "control_model.middle_block.1.proj_in.weight"),
        (sd1, "diffusers", "down_blocks.0.resnets.0.conv1.weight"),
        (sd3, "instantx", "pos_embed_input.proj.weight"),
        (sd3, "stability", "control_type"),
        (flux, "xlabs", "input_hint_block.14.weight"),
        (flux, "xlabs", "double_blocks.0.txt_attn.qkv.weight"),
        (flux, "union", "controlnet_mode_embedder.weight"),
    ]
    for opened, name, key in damaged:
        weights = load_file(opened.folder / f"{name}.safetensors")
        save_file({**weights, key: torch.tensor(float("nan"))}, opened.folder / "damaged.safetensors")
        with pytest.raises(Refused, match="damaged") as refused:
            opened.family.controls.find("damaged")
        assert refused.value.field == "control.model"


def test_files_that_only_other_programs_run_are_refused_by_what_they_are(sd3: Opened, flux: Opened) -> None:
    weights = load_file(sd3.folder / "stability.safetensors")
    square = "time_text_embed.text_embedder.linear_1.weight"
    save_file({**weights, square: torch.zeros(64, 64)}, sd3.folder / "first.safetensors")
    with pytest.raises(Refused, match="only Stability's own code runs"):
        sd3.family.controls.find("first")
    save_file(
        {
            **load_file(flux.folder / "union.safetensors"),
            "controlnet_x_embedder.weight": torch.zeros(128, 68),
        },
        flux.folder / "inpainting.safetensors",
    )
    with pytest.raises(Refused, match="controlnet_x_embedder"):
        flux.family.controls.find("inpainting")
    save_file({"controlnet_blocks.0.linear.weight": torch.zeros(4, 4)}, flux.folder / "misto.safetensors")
    with pytest.raises(Refused, match="use a ControlNet for Flux in diffusers' or XLabs' layout"):
        flux.family.controls.find("misto")
