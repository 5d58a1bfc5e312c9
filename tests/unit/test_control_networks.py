"""Control networks: read from files as they are published, and run for the rows that want them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from img2img_shared.control import UnionType
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.prompt_tags import Lora
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.control import control_nets as control_folder
from img2img_worker.models.control.networks import ControlNetwork, seen_by
from img2img_worker.models.control.rows import Region, RowControl
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.steps import run_now
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.control_files import (
    adapter,
    control_net,
    union,
    write_difference,
    write_diffusers,
    write_lora,
    write_original,
    write_original_adapter,
    write_original_light,
)
from tests.unit.loras import Target, write_kohya
from tests.unit.sharing import answers_as_alone

#: rows and columns of the latents, which a UNet cannot halve evenly
CELLS = (9, 7)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(seed: int = 0) -> torch.Tensor:
    height, width = (8 * side for side in CELLS)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)


def opened(checkpoint: Path, folder: Path) -> StableDiffusion:
    family = open_checkpoint(checkpoint, control_folders=(folder,))
    assert isinstance(family, StableDiffusion)
    return family


def control(network: ControlNetwork, seed: int = 0, **more: Any) -> RowControl:
    return RowControl(
        network=network, seen=run_now(seen_by(network, picture(seed))), **{"scales": (0.8,) * 20, **more}
    )


def condition(family: StableDiffusion, prompt: str, *controls: RowControl) -> Condition:
    params = Params(width=64, height=72)
    text = family.condition(embedded(family, prompt), params)
    return Condition(tensors=text.tensors, controls=controls)


@torch.inference_mode()
@pytest.mark.parametrize("build", [checkpoints.sd1, checkpoints.sd2, checkpoints.sdxl])
def test_both_layouts_of_a_controlnet_answer_as_diffusers_own(
    build: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, build)
    network = control_net(checkpoint, seed=3)
    write_original(network, tmp_path / "original.safetensors")
    write_diffusers(network, tmp_path / "renamed.safetensors")
    family = opened(checkpoint, tmp_path)
    x, t = random(1, 4, *CELLS), torch.tensor([441.0])
    text = condition(family, "the cat")
    added = None
    if "pooled" in text.tensors:
        added = {"text_embeds": text.tensors["pooled"][None], "time_ids": text.tensors["time_ids"][None]}
    context = text.tensors["context"][None]
    down, mid = network(
        x, t, context, picture().permute(2, 0, 1)[None] / 255, 0.8, added_cond_kwargs=added, return_dict=False
    )
    wanted = family.unet(
        x,
        t,
        context,
        added_cond_kwargs=added,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
    ).sample
    assert (wanted - family.predict(x, t, Conditions.stack([text]))).abs().max() > 0.05
    for name in ("original", "renamed"):
        row = condition(family, "the cat", control(family.controls.find(name)))
        torch.testing.assert_close(family.predict(x, t, Conditions.stack([row])), wanted)


@torch.inference_mode()
def test_a_union_answers_as_diffusers_own_for_each_of_its_kinds(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sdxl)
    network = union(checkpoint, seed=6)
    write_diffusers(network, tmp_path / "union.safetensors")
    family = opened(checkpoint, tmp_path)
    x, t = random(2, 4, *CELLS), torch.tensor([441.0, 20.0])
    text = condition(family, "the cat")
    kinds: dict[UnionType, int] = {"OpenPose": 0, "Hard Edge": 3}
    rows = [condition(family, "the cat", control(family.controls.find("union", kind))) for kind in kinds]
    found = family.predict(x, t, Conditions.stack(rows))
    for place, number in enumerate(kinds.values()):
        own = slice(place, place + 1)
        added = {"text_embeds": text.tensors["pooled"][None], "time_ids": text.tensors["time_ids"][None]}
        context = text.tensors["context"][None]
        down, mid = network(
            x[own],
            t[own],
            context,
            [picture().permute(2, 0, 1)[None] / 255],
            torch.nn.functional.one_hot(torch.tensor([number]), 6),
            [number],
            conditioning_scale=[0.8],
            added_cond_kwargs=added,
            return_dict=False,
        )
        wanted = family.unet(
            x[own],
            t[own],
            context,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        torch.testing.assert_close(found[own], wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(Refused, match="Hard Edge"):
        family.controls.find("union")
    with pytest.raises(Refused, match="Tile"):
        family.controls.find("union", "Tile")


@torch.inference_mode()
@pytest.mark.parametrize("build", [checkpoints.sd1, checkpoints.sdxl])
def test_a_control_lora_is_the_unet_with_what_it_adds_whatever_loras_that_wears(
    build: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, build)
    network = control_net(checkpoint, seed=8)
    write_lora(network, checkpoint, tmp_path / "lora.safetensors")
    write_original(network, tmp_path / "whole.safetensors")
    (tmp_path / "Lora").mkdir()
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False)
    name = "mid_block.attentions.0.proj_in"
    ink = Target(module=name, kohya=f"lora_unet_{name.replace('.', '_')}", peft=f"unet.{name}")
    write_kohya(tmp_path / "Lora" / "ink.safetensors", unet, [ink], seed=9)
    family = open_checkpoint(checkpoint, control_folders=(tmp_path,), lora_folder=tmp_path / "Lora")
    assert isinstance(family, StableDiffusion)
    family.loras.denoiser.apply(family.loras.find([Lora(name="ink")]).denoiser)
    x, t = random(1, 4, *CELLS), torch.tensor([441.0])
    answers = [
        family.predict(x, t, Conditions.stack([condition(family, "the cat", control(found))]))
        for found in (family.controls.find("lora"), family.controls.find("whole"))
    ]
    torch.testing.assert_close(*answers)


@torch.inference_mode()
def test_a_difference_from_the_unet_is_added_to_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    network = control_net(checkpoint, seed=8)
    with torch.no_grad():
        network.mid_block.resnets[0].conv1.weight.add_(0.1)
    write_difference(network, checkpoint, tmp_path / "difference.safetensors")
    write_original(network, tmp_path / "whole.safetensors")
    family = opened(checkpoint, tmp_path)
    x, t = random(1, 4, *CELLS), torch.tensor([441.0])
    answers = [
        family.predict(x, t, Conditions.stack([condition(family, "the cat", control(found))]))
        for found in (family.controls.find("difference"), family.controls.find("whole"))
    ]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("kind", "build", "channels"),
    [
        ("full_adapter", checkpoints.sd1, (32, 64)),
        # whose last level is as wide as the one before
        ("light_adapter", checkpoints.sd2, (64,)),
    ],
)
def test_both_layouts_of_an_adapter_answer_as_diffusers_own(
    kind: str,
    build: Any,
    channels: tuple[int, ...],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, build)
    network = adapter(channels, 4, kind)
    save_file(dict(network.state_dict()), tmp_path / "renamed.safetensors")
    write = write_original_adapter if kind == "full_adapter" else write_original_light
    write(network, tmp_path / "original.safetensors")
    family = opened(checkpoint, tmp_path)
    # sides that halve evenly: at others its authors' pooling is not diffusers'
    x, t = random(1, 4, 8, 8), torch.tensor([441.0])
    shown = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    features = [feature * 0.8 for feature in network(shown.permute(2, 0, 1)[None] / 255)]
    text = condition(family, "the cat")
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False)
    context = text.tensors["context"][None]
    wanted = unet(x, t, context, down_intrablock_additional_residuals=features).sample
    for name in ("original", "renamed"):
        found = family.controls.find(name)
        row = condition(
            family,
            "the cat",
            RowControl(network=found, seen=run_now(seen_by(found, shown)), scales=(0.8,) * 4),
        )
        torch.testing.assert_close(family.predict(x, t, Conditions.stack([row])), wanted)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    folder = tmp_path_factory.mktemp("models")
    for seed, name in ((3, "edges"), (5, "depth")):
        write_original(control_net(checkpoint, seed), folder / f"{name}.safetensors")
    write_original_adapter(adapter((32, 64), 4), folder / "sketch.safetensors")
    return opened(checkpoint, folder)


@torch.inference_mode()
def test_rows_with_other_networks_none_or_several_share_a_call_and_each_has_its_own(
    many: StableDiffusion,
) -> None:
    edges, depth, sketch = (many.controls.find(name) for name in ("edges", "depth", "sketch"))
    mask = torch.zeros(8 * CELLS[0], 8 * CELLS[1], dtype=torch.uint8)
    mask[:, :24] = 255
    region = Region(mask)
    rows = [
        condition(many, "the cat"),
        condition(many, "the cat " * 60, control(edges)),
        condition(many, "the dog", control(depth), control(edges, 1, scales=(0.3, 0.0, 0.1))),
        condition(many, "red", control(edges, 2), control(edges, 3)),
        condition(many, "red", control(sketch, 2, scales=(0.4, 0.9)), control(depth, region=region)),
    ]
    x, t = random(5, 4, *CELLS), torch.tensor([20.0, 441.0, 700.5, 3.0, 999.0])
    together = answers_as_alone(many, rows, x, t)
    plain = [Condition(tensors=row.tensors) for row in rows]
    without = answers_as_alone(many, plain, x, t)
    torch.testing.assert_close(together[0], without[0])
    assert all((together[i] - without[i]).abs().max() > 0.01 for i in range(1, 5))


@torch.inference_mode()
def test_a_network_runs_once_a_call_for_the_rows_that_use_it_alone(many: StableDiffusion) -> None:
    edges, depth = many.controls.find("edges"), many.controls.find("depth")
    seen: list[tuple[str, int]] = []
    for name, network in (("edges", edges), ("depth", depth)):
        inner: Any = network
        inner.network.register_forward_pre_hook(
            lambda _module, arguments, name=name: seen.append((name, len(arguments[0])))
        )
    rows = [condition(many, "the cat") for _ in range(3)]
    many.predict(random(3, 4, *CELLS), torch.full((3,), 441.0), Conditions.stack(rows))
    assert seen == []
    rows = [*rows, condition(many, "red", control(edges)), condition(many, "dog", control(edges, 1))]
    many.predict(random(5, 4, *CELLS), torch.full((5,), 441.0), Conditions.stack(rows))
    assert seen == [("edges", 2)]


def test_in_a_second_pass_an_adapter_goes_on_seeing_what_it_saw_in_the_first(many: StableDiffusion) -> None:
    adapter, control_net = many.controls.find("sketch"), many.controls.find("edges")
    first, second = picture(1), picture(2).repeat(2, 2, 1)
    before, alone = run_now(seen_by(adapter, first)), run_now(seen_by(adapter, second))
    found = run_now(seen_by(adapter, second, first))
    assert [each.shape for each in found] == [each.shape for each in alone]
    nearest = torch.nn.functional.interpolate(before[0][None], size=alone[0].shape[1:])[0]
    torch.testing.assert_close(found[0], nearest)
    of_others = zip(
        run_now(seen_by(control_net, second, first)), run_now(seen_by(control_net, second)), strict=True
    )
    assert all(torch.equal(one, other) for one, other in of_others)


@torch.inference_mode()
def test_an_adapters_features_are_limited_to_a_region_at_their_own_size(
    many: StableDiffusion,
) -> None:
    adapter, shown = many.controls.find("sketch"), picture(1)
    region = torch.arange(8 * CELLS[1], dtype=torch.uint8).repeat(8 * CELLS[0], 1) * 4
    inner: Any = adapter
    raw = inner.network(shown.permute(2, 0, 1)[None] / 255)
    found = run_now(seen_by(adapter, shown, region=region))
    assert [raw[1].shape[2:], found[1].shape[1:]] == [(4, 3), (5, 4)]
    for before, after in zip(raw, found, strict=True):
        mask = torch.nn.functional.interpolate(
            region[None, None] / 255, size=before.shape[2:], mode="bilinear"
        )
        wanted = torch.nn.functional.interpolate(before * mask, size=after.shape[1:])[0]
        torch.testing.assert_close(after, wanted)


def test_a_network_is_found_by_title_by_name_and_by_a_part_of_one(many: StableDiffusion) -> None:
    titles = many.controls.titles
    assert [title.partition(" [")[0] for title in titles] == ["depth", "edges", "sketch"]
    assert many.controls.find(titles[1]).key == many.controls.find("EDGES").key
    assert many.controls.find("dep").key == many.controls.find("depth").key
    with pytest.raises(Refused, match="depth, edges, sketch"):
        many.controls.find("pose")


def test_those_least_used_make_room(many: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    edges, depth = many.controls.find("edges"), many.controls.find("depth")
    assert many.controls.find("edges") is edges
    monkeypatch.setattr(control_folder, "REMEMBERED", edges.n_bytes + 1)
    assert many.controls.find("edges") is edges
    assert many.controls.find("depth") is not depth


@pytest.mark.parametrize("change", ["lacks", "another", "has more"])
def test_a_file_that_is_not_used_to_the_last_tensor_is_refused(
    change: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    path = write_original(control_net(checkpoint, 3), tmp_path / "edges.safetensors")
    weights = load_file(path)
    if change == "lacks":
        del weights["control_model.zero_convs.1.0.bias"]
    elif change == "has more":
        weights["control_model.surplus"] = torch.zeros(1)
    else:
        checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd2)
    save_file(weights, path)
    with pytest.raises(Refused, match="edges"):
        opened(checkpoint, tmp_path).controls.find("edges")


def test_what_is_no_control_network_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    save_file({"some.weight": torch.zeros(1)}, tmp_path / "thing.safetensors")
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    save_file({}, tmp_path / "nothing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for name, reason in {
        "thing": r"some\.weight",
        "nothing": "holds no tensors by name",
        "broken": r"cannot be read as \.safetensors",
    }.items():
        # by this name it is told from an error of the image: another worker may have a sound copy
        with pytest.raises(Refused, match=f"control.model is '{name}': .*{reason}"):
            opened(checkpoint, tmp_path).controls.find(name)
