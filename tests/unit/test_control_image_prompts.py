"""IP-Adapters: read from files as they are published, and pictures seen by the rows that want them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor

from img2img_shared.control import ControlUnit
from img2img_shared.control_modules import MODULES
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.engine.render import Control
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.control import control_nets as control_folder
from img2img_worker.models.control import image_prompt as image_prompt_module
from img2img_worker.models.control import image_prompt_rows
from img2img_worker.models.control.image_prompt_rows import RowImagePrompt
from img2img_worker.models.control.rows import Region
from img2img_worker.models.families import multi_head_attention
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.control_files import control_net, write_original
from tests.unit.engine_toys import render
from tests.unit.image_prompt_files import (
    Kind,
    clip_vision,
    image_prompt,
    write_clip_vision,
    write_diffusers,
    write_pickle,
    write_safetensors,
)
from tests.unit.sharing import answers_as_alone, pictures_as_alone

AUTO = MODULES["ip-adapter-auto"]
#: rows and columns of the latents, which a UNet cannot halve evenly
CELLS = (9, 7)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(seed: int, channels: int = 3) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (224, 224, channels), np.uint8)


def opened(checkpoint: Path, models: Path, **more: Any) -> StableDiffusion:
    family = open_checkpoint(checkpoint, models_dir=models, control_folders=(models / "ControlNet",), **more)
    assert isinstance(family, StableDiffusion)
    return family


def models_with(tmp_path: Path) -> Path:
    (tmp_path / "ControlNet").mkdir(exist_ok=True)
    write_clip_vision(clip_vision(7), tmp_path / "clip_vision" / "clip_h.safetensors")
    return tmp_path


def pipeline(checkpoint: Path, adapter: Path) -> Any:
    """diffusers' own, with the adapter; its steps are those that A1111 makes of four."""
    pipe: Any = DiffusionPipeline.from_pretrained(
        checkpoint,
        image_encoder=clip_vision(7),
        feature_extractor=CLIPImageProcessor(),
        **({} if "xl" in checkpoint.name else {"safety_checker": None}),
        low_cpu_mem_usage=False,
    )
    assert isinstance(pipe, StableDiffusionPipeline | StableDiffusionXLPipeline)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    pipe.load_ip_adapter(
        str(adapter.parent),
        subfolder="",
        weight_name=adapter.name,
        image_encoder_folder=None,
        low_cpu_mem_usage=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rendered(family: StableDiffusion, *units: ControlUnit, pictures: list[Pixels]) -> Pixels:
    params = Params(
        txt2img=True, width=64, height=64, steps=4, cfg_scale=5, sampler_name="Euler", scheduler="Uniform"
    )
    controls = tuple(Control(unit=unit, picture=each) for unit, each in zip(units, pictures, strict=True))
    one = Render(
        params=params,
        prompt="the red cat",
        negative_prompt="dog",
        seed=5,
        subseed=0,
        latent_size=(8, 8),
        controls=controls,
    )
    with Engine(family) as engine:
        pixels: Pixels = engine.submit(one).result()
        return pixels


# diffusers' scheduler asks tensors for arrays as numpy 1 had it
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("build", [checkpoints.sd1, checkpoints.sdxl])
@pytest.mark.parametrize("kind", ["plain", "plus", "full"])
def test_every_kind_and_layout_renders_as_diffusers_own_pipeline(
    build: Any, kind: Kind, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, build)
    models = models_with(tmp_path)
    parts = image_prompt(checkpoint, seed=3, kind=kind)
    written = write_safetensors(parts, models / "ControlNet" / "adapter.safetensors")
    pipe = pipeline(checkpoint, written)
    write_pickle(parts, models / "ControlNet" / "pickle.bin")
    write_diffusers(pipe.unet, models / "ControlNet" / "renamed.safetensors")
    pipe.set_ip_adapter_scale(0.7)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    wanted = pipe(
        "the red cat",
        negative_prompt="dog",
        num_inference_steps=4,
        guidance_scale=5,
        height=64,
        width=64,
        latents=latents,
        ip_adapter_image=Image.fromarray(picture(1)),
        output_type="np",
    ).images[0]
    family = opened(checkpoint, models, allow_pickles=True)
    for name in ("adapter", "pickle", "renamed"):
        unit = ControlUnit(module="ip-adapter-auto", model=name, weight=0.7)
        found = rendered(family, unit, pictures=[picture(1)])
        assert np.abs(found - np.floor(255 * wanted)).mean() < 0.05
    assert np.abs(rendered(family, pictures=[]) - 255 * wanted).mean() > 2


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    models = models_with(tmp_path_factory.mktemp("models"))
    kinds: dict[str, tuple[Kind, int]] = {"plain": ("plain", 4), "plus": ("plus", 16), "other": ("plain", 4)}
    for seed, (name, (kind, n_tokens)) in enumerate(kinds.items()):
        parts = image_prompt(checkpoint, seed, kind, n_tokens)
        write_safetensors(parts, models / "ControlNet" / f"{name}.safetensors")
    write_original(control_net(checkpoint, 3), models / "ControlNet" / "edges.safetensors")
    return opened(checkpoint, models)


def seen(family: StableDiffusion, name: str, seed: int = 0, **more: Any) -> RowImagePrompt:
    network = family.controls.find_image_prompt(name, AUTO)
    prompt = network.prompts([torch.from_numpy(picture(seed))]).positive
    return RowImagePrompt(prompt=prompt, **{"weights": (0.8,) * len(network.adapter.blocks), **more})


def condition(family: StableDiffusion, prompt: str, *prompts: RowImagePrompt) -> Condition:
    text = family.condition(embedded(family, prompt), Params(width=64, height=72))
    return Condition(tensors=text.tensors, image_prompts=prompts)


@torch.inference_mode()
def test_rows_with_other_adapters_none_or_several_share_a_call_and_each_has_its_own(
    many: StableDiffusion,
) -> None:
    mask = torch.zeros(8 * CELLS[0], 8 * CELLS[1], dtype=torch.uint8)
    mask[:, :24] = 255
    rows = [
        condition(many, "the cat"),
        condition(many, "the cat " * 60, seen(many, "plain")),
        condition(
            many, "the dog", seen(many, "plus", 1), seen(many, "plain", 2, weights=(0.3, 0.0, 0.1, 0.0))
        ),
        condition(many, "red", seen(many, "other", 2), seen(many, "other", 3)),
        condition(many, "red", seen(many, "plus", 2, region=Region(mask))),
    ]
    x, t = random(5, 4, *CELLS), torch.tensor([20.0, 441.0, 700.5, 3.0, 999.0])
    together = answers_as_alone(many, rows, x, t)
    plain = [Condition(tensors=row.tensors) for row in rows]
    without = answers_as_alone(many, plain, x, t)
    torch.testing.assert_close(together[0], without[0])
    assert all((together[i] - without[i]).abs().max() > 0.01 for i in range(1, 5))


@torch.inference_mode()
def test_rows_that_see_no_picture_attend_to_none(
    many: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    attended: list[int] = []

    def counted(query: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        attended.append(len(query))
        return multi_head_attention.attend(query, *others)

    monkeypatch.setattr(image_prompt_rows, "attend", counted)
    plain = condition(many, "the cat")
    many.predict(random(3, 4, *CELLS), torch.full((3,), 441.0), Conditions.stack([plain] * 3))
    assert attended == []
    rows = [
        plain,
        plain,
        condition(many, "red", seen(many, "plain")),
        condition(many, "dog", seen(many, "other")),
    ]
    many.predict(random(4, 4, *CELLS), torch.full((4,), 441.0), Conditions.stack(rows))
    assert set(attended) == {2}


UNITS: tuple[tuple[dict[str, Any], ...], ...] = (
    (),
    ({"model": "plain"},),
    ({"model": "plus", "weight": 0.4, "module": "ip-adapter_clip_h"},),
    ({"model": "plain", "guidance_start": 0.3}, {"model": "other", "guidance_end": 0.3}),
    ({"model": "other"}, {"model": "edges", "module": "none"}),
    ({"model": "plus", "advanced_weighting": (0.0, 0.5, 0.5, 1.0)},),
)


@pytest.mark.parametrize("deterministic", [False, True])
def test_images_that_see_other_pictures_share_calls_and_come_out_as_alone(
    many: StableDiffusion, deterministic: bool
) -> None:
    renders = [controlled(*units) for units in UNITS]
    together = pictures_as_alone(many, renders, deterministic=deterministic)
    assert all((each != together[0]).any() for each in together[1:])


def controlled(*units: dict[str, Any]) -> Render:
    controls = tuple(
        Control(
            unit=ControlUnit(**{"module": "ip-adapter-auto", **fields}),
            picture=picture(seed)[:64, :64] if fields.get("module") == "none" else picture(seed),
        )
        for seed, fields in enumerate(units)
    )
    plain = render(prompt="the cat", steps=4, denoising_strength=0.9, cfg_scale=5)
    return replace(plain, controls=controls)


def test_rows_that_see_pictures_keep_to_themselves_where_the_network_runs_as_graphs(
    many: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs know nothing of pictures beside the text, so the others' calls must not do without them."""
    calls: list[tuple[int, int]] = []
    own = StableDiffusion.predict

    def predict(family: StableDiffusion, *given: Any) -> torch.Tensor:
        conditions = given[-1]
        calls.append((len(conditions), sum(len(each.rows) for each in conditions.image_prompts)))
        return own(family, *given)

    monkeypatch.setattr(StableDiffusion, "predict", predict)
    renders = [controlled(*units) for units in UNITS[:3]]
    pictures_as_alone(replace(many, is_compiled=True), renders, deterministic=False)
    assert {seeing in (0, rows) for rows, seeing in calls} == {True}
    assert any(seeing for _, seeing in calls)


def test_a_unit_without_weight_or_after_its_end_changes_nothing_and_control_modes_mean_nothing(
    many: StableDiffusion,
) -> None:
    with Engine(many, deterministic=True) as engine:
        plain, none, late, own, balanced = (
            engine.submit(controlled(*units)).result()
            for units in (
                (),
                ({"model": "plain", "weight": 0.0},),
                ({"model": "plain", "guidance_start": 0.99},),
                ({"model": "plain", "control_mode": "ControlNet is more important"},),
                ({"model": "plain"},),
            )
        )
    np.testing.assert_array_equal(none, plain)
    np.testing.assert_array_equal(late, plain)
    np.testing.assert_array_equal(own, balanced)
    assert (own != plain).any()


def test_what_clip_is_not_to_see_of_a_picture_has_no_part_in_it(many: StableDiffusion) -> None:
    network = many.controls.find_image_prompt("plus", AUTO)
    masked = picture(0, channels=4)
    masked[:, :, 3] = 255
    masked[:, 56:168, 3] = 0
    other = masked.copy()
    other[:, :56, :3] = 0
    shown, same, bare = (
        network.prompts([torch.from_numpy(each)]).positive for each in (masked, other, masked[:, :, :3])
    )
    assert all(torch.equal(*each) for each in zip(shown.keys, same.keys, strict=True))
    assert not torch.equal(shown.keys[0], bare.keys[0])


@pytest.mark.parametrize(("prompt", "is_seen"), [("the cat", False), ("the cat " * 60, True)])
def test_negative_rows_see_the_picture_where_the_texts_lengths_differ_as_in_the_extension(
    prompt: str, is_seen: bool, many: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1111 asks for texts of other lengths one by one, and the extension keeps what the first row saw."""
    seen_by_rows: list[torch.Tensor] = []
    own = StableDiffusion.predict

    def predict(family: StableDiffusion, *given: Any) -> torch.Tensor:
        seen_by_rows.extend(given[-1].image_prompts[0].keys[0])
        return own(family, *given)

    monkeypatch.setattr(StableDiffusion, "predict", predict)
    one = controlled({"model": "plain"})
    with Engine(many) as engine:
        engine.submit(replace(one, prompt=prompt)).result()
    first, second = seen_by_rows[:2]
    assert torch.equal(first, second) == is_seen


def test_of_several_pictures_the_mean_is_seen(many: StableDiffusion) -> None:
    one = controlled({"model": "plus"})
    (control,) = one.controls
    third = replace(control, picture=picture(9))
    with Engine(many, deterministic=True) as engine:
        alone, twice, both, swapped = (
            engine.submit(replace(one, controls=(each,))).result()
            for each in (
                control,
                replace(control, more=(picture(0),)),
                replace(control, more=(picture(9),)),
                replace(third, more=(picture(0),)),
            )
        )
    np.testing.assert_array_equal(twice, alone)
    np.testing.assert_array_equal(both, swapped)
    assert (both != alone).any()


def test_published_files_for_the_larger_clip_are_known_by_name(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    models = models_with(tmp_path)
    write_clip_vision(clip_vision(8), models / "clip_vision" / "CLIP-ViT-bigG-14.safetensors")
    parts = image_prompt(checkpoint, 3)
    seen_by = {}
    for name in ("ip-adapter_sd15", "ip-adapter_sd15_vit-G"):
        write_safetensors(parts, models / "ControlNet" / f"{name}.safetensors")
        found = opened(checkpoint, models).controls.find_image_prompt(name, AUTO)
        seen_by[name] = found.encoder.name
    assert list(seen_by.values()) == ["clip_h.safetensors", "CLIP-ViT-bigG-14.safetensors"]


def test_a_picture_is_looked_at_once_however_many_images_see_it(many: StableDiffusion) -> None:
    network = many.controls.find_image_prompt("plain", AUTO)
    looks: list[object] = []
    hook = network.encoder.model.register_forward_pre_hook(lambda *given: looks.append(given))
    first, second = (network.prompts([torch.from_numpy(picture(33))]) for _ in range(2))
    hook.remove()
    assert len(looks) == 1
    assert first.positive is second.positive


def test_an_adapter_and_what_sees_for_it_stay_together_and_make_room_for_others(
    many: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = many.controls.find("edges")
    first = many.controls.find_image_prompt("plain", AUTO)
    monkeypatch.setattr(control_folder, "REMEMBERED", 1)
    second = many.controls.find_image_prompt("plain", AUTO)
    assert (second.adapter, second.encoder) == (first.adapter, first.encoder)
    assert many.controls.find("edges") is not edges
    assert many.controls.find_image_prompt("plain", AUTO).encoder is not first.encoder


def test_what_pictures_were_made_into_is_kept_within_a_bound(
    many: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = many.controls.find_image_prompt("plus", AUTO)
    shown = torch.from_numpy(picture(1))
    first = network.prompts([shown]).positive
    assert network.prompts([shown]).positive is first
    monkeypatch.setattr(image_prompt_module, "REMEMBERED", first.n_bytes + 1)
    network.prompts([torch.from_numpy(picture(2))])
    assert network.prompts([shown]).positive is not first


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("lacks a layer", "takes 64 × 64|down_blocks|up_blocks"),
        ("has more", "surplus"),
        ("another", "kind of checkpoint"),
    ],
)
def test_a_file_that_is_not_used_to_the_last_tensor_is_refused(
    change: str, told: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    models = models_with(tmp_path)
    path = write_safetensors(image_prompt(checkpoint, 3), models / "ControlNet" / "adapter.safetensors")
    weights = load_file(path)
    if change == "lacks a layer":
        del weights["ip_adapter.3.to_v_ip.weight"]
    elif change == "has more":
        weights["ip_adapter.surplus"] = torch.zeros(1)
    else:
        checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sdxl)
    save_file(weights, path)
    with pytest.raises(Refused, match=told):
        opened(checkpoint, models).controls.find_image_prompt("adapter", AUTO)


def test_keys_and_values_that_are_no_two_halves_are_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    models = models_with(tmp_path)
    parts = image_prompt(checkpoint, 3, "plus")
    family = opened(checkpoint, models)
    for number, wrong in enumerate((torch.zeros(()), torch.zeros(1, 4), torch.zeros(3, 4))):
        parts["image_proj"]["layers.0.0.to_kv.weight"] = wrong
        write_safetensors(parts, models / "ControlNet" / f"broken-{number}.safetensors")
        with pytest.raises(Refused, match="broken"):
            family.controls.find_image_prompt(f"broken-{number}", AUTO)


def test_one_that_looks_for_faces_is_refused_with_what_it_takes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    models = models_with(tmp_path)
    parts = image_prompt(checkpoint, 3)
    faces = {
        "proj.0.weight": torch.zeros(4, 4),
        "proj.2.weight": torch.zeros(4, 4),
        "norm.weight": torch.ones(4),
    }
    resampler = {"perceiver_resampler.proj_in.weight": torch.zeros(4, 4)}
    for name, projection in (("faceid", faces), ("faceid-plus", faces | resampler)):
        write_safetensors({**parts, "image_proj": projection}, models / "ControlNet" / f"{name}.safetensors")
        with pytest.raises(Refused, match="insightface"):
            opened(checkpoint, models).controls.find_image_prompt(name, AUTO)


def test_what_sees_is_found_by_name_in_either_layout_and_named_where_it_is_missing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    (tmp_path / "ControlNet").mkdir()
    write_safetensors(image_prompt(checkpoint, 3), tmp_path / "ControlNet" / "adapter.safetensors")
    family = opened(checkpoint, tmp_path)
    with pytest.raises(Refused, match=r"ViT-H/14.* clip_vision/clip_h\.safetensors"):
        family.controls.find_image_prompt("adapter", AUTO)
    clip_vision(7).save_pretrained(tmp_path / "clip_vision" / "CLIP-ViT-H-14-laion2B")
    folder = family.controls.find_image_prompt("adapter", AUTO).encoder
    write_clip_vision(clip_vision(7), tmp_path / "clip_vision" / "clip_h.safetensors")
    file = family.controls.find_image_prompt("adapter", AUTO).encoder
    assert (folder.name, file.name) == ("CLIP-ViT-H-14-laion2B", "clip_h.safetensors")
    assert torch.equal(*(each.see(torch.from_numpy(picture(0))).patches for each in (folder, file)))
    with pytest.raises(Refused, match="clip_g"):
        family.controls.find_image_prompt("adapter", MODULES["ip-adapter_clip_sdxl"])


def test_another_module_than_the_file_is_for_is_refused(many: StableDiffusion) -> None:
    with pytest.raises(Refused, match="ip-adapter-auto"):
        many.controls.of_unit(ControlUnit(model="plain", module="canny"))
    with pytest.raises(Refused, match="no IP-Adapter"):
        many.controls.of_unit(ControlUnit(model="edges", module="ip-adapter-auto"))
    weighted = ControlUnit(model="plain", module="ip-adapter-auto", advanced_weighting=(1.0,) * 16)
    with pytest.raises(Refused, match="takes 4"):
        many.controls.of_unit(weighted)
