"""Hypernetworks: A1111's files, and what they do before keys and values."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.prompt_tags import ExtraNetworks, Hypernetwork, take_extra_networks
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.loaded import Loaded
from img2img_worker.engine.state import prepare_render
from img2img_worker.models.adapters.hypernetwork_file import read_hypernetwork
from img2img_worker.models.adapters.hypernetworks import NO_HYPERNETWORKS, Hypernetworks
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Condition, Conditions
from tests import checkpoints
from tests.unit.test_vaes import render

CPU = torch.device("cpu")


def write(path: Path, layers: dict[int, list[nn.Module]], **says: Any) -> Path:
    """A file as A1111 saves it, whose networks for keys and values are of these layers."""
    torch.manual_seed(3)
    state: dict[Any, Any] = {"step": 7, "name": path.stem, "layer_structure": [1, 2, 1], **says}
    for width, modules in layers.items():
        pair = []
        for _ in range(2):
            network = nn.Sequential(*modules)
            for weight in network.parameters():
                nn.init.normal_(weight, std=0.3)
            pair.append({f"linear.{key}": value.clone() for key, value in network.state_dict().items()})
        state[width] = tuple(pair)
    path.parent.mkdir(exist_ok=True)
    torch.save(state, path)
    return path


def plain(width: int) -> list[nn.Module]:
    return [nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU()]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with hypernetworks in it, for SD 1.x's context of 64 and pictures of 32 and 64."""
    folder = tmp_path_factory.mktemp("models")
    write(folder / "hypernetworks" / "all.pt", {32: plain(32), 64: plain(64)}, activation_func="relu")
    write(folder / "hypernetworks" / "wide.pt", {16: plain(16)}, activation_func="relu")
    write(folder / "hypernetworks" / "None.pt", {64: plain(64)})
    return folder


@pytest.fixture
def family(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1), models_dir=models)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([nn.Linear(4, 8), nn.Linear(8, 4)], {}),
        ([nn.Linear(4, 8), nn.Linear(8, 4)], {"activation_func": "linear"}),
        ([nn.Linear(4, 8), nn.Hardswish(), nn.Linear(8, 4), nn.Hardswish()], {"activation_func": "swish"}),
        (
            [nn.Linear(4, 8), nn.Mish(), nn.LayerNorm(8), nn.Linear(8, 4), nn.LayerNorm(4)],
            {"activation_func": "mish", "is_layer_norm": True, "activate_output": False},
        ),
        (
            [
                *(nn.Linear(4, 12), nn.LeakyReLU(), nn.Identity(), nn.Linear(12, 8), nn.LeakyReLU()),
                *(nn.Linear(8, 4), nn.LeakyReLU()),
            ],
            {"activation_func": "leakyrelu", "layer_structure": [1, 3, 2, 1], "use_dropout": True},
        ),
        (
            [
                *(nn.Linear(4, 12), nn.Tanh(), nn.Identity(), nn.Linear(12, 8), nn.Tanh(), nn.Identity()),
                nn.Linear(8, 4),
            ],
            {
                "activation_func": "tanh",
                "layer_structure": [1, 3, 2, 1],
                "activate_output": False,
                "use_dropout": True,
                "last_layer_dropout": True,
            },
        ),
        (
            [nn.Linear(4, 8), nn.Identity(), nn.Linear(8, 4)],
            {"dropout_structure": [0, 0.1, 0], "activation_func": None},
        ),
        ([nn.Linear(4, 8), nn.PReLU(), nn.Linear(8, 4), nn.PReLU()], {"activation_func": "prelu"}),
    ],
)
def test_every_structure_is_read(layers: list[nn.Module], says: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "x.pt", {4: layers}, **says)
    saved = torch.load(path, weights_only=True)[4]
    x = torch.randn(2, 5, 4)
    for found, weights in zip(read_hypernetwork(path, CPU)[4], saved, strict=True):
        wanted = nn.Sequential(*layers)
        wanted.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
        assert torch.allclose(found(x), wanted(x), atol=1e-6)


def test_the_oldest_names_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pt", {4: [nn.Linear(4, 8), nn.Linear(8, 4)]})
    state = torch.load(path, weights_only=True)
    old = {"linear.0.": "linear1.", "linear.1.": "linear2."}
    pair = tuple({old[key[:9]] + key[9:]: value for key, value in each.items()} for each in state[4])
    torch.save({4: pair}, path)
    assert torch.equal(read_hypernetwork(path, CPU)[4][0].linear[0].weight, pair[0]["linear1.weight"])  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"activation_func": "softmax"}, "an activation 'softmax'; known are linear, celu"),
        ({"layer_structure": [1, 2, 2]}, "1 is first and last"),
        ({"layer_structure": [1, 1e9, 1]}, "layers as wide as"),
        ({"layer_structure": "12"}, "structure makes no sense"),
        ({"layer_structure": [1, 3, 1]}, "has another size of"),
        ({"is_layer_norm": True}, "lacks linear"),
        ({"dropout_structure": [0, 2, 0]}, "dropouts of"),
        ({4: None}, "structure makes no sense"),
        ({4: ("x", {})}, "structure makes no sense"),
        ({4: ({"linear.0.weight": torch.zeros(1).expand(10**10)}, {})}, "tensors are larger than the file"),
        ({4: ({"linear.0.weight": torch.full((8, 4), torch.nan)}, {})}, "numbers that are not finite"),
    ],
)
def test_what_is_none_is_refused_with_its_reason(says: dict[Any, Any], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pt", {4: [nn.Linear(4, 8), nn.Linear(8, 4)]})
    torch.save(torch.load(path, weights_only=True) | says, path)
    with pytest.raises(Refused, match=reason) as refused:
        read_hypernetwork(path, CPU)
    assert (refused.value.field, refused.value.value) == ("hypernetwork", "x")


def test_a_pickle_that_is_no_file_of_tensors_is_not_run(tmp_path: Path) -> None:
    torch.save({4: Path("harm")}, tmp_path / "code.pt")
    with pytest.raises(Refused, match=r"tensors \(damaged, or a pickle that holds more than tensors\);"):
        read_hypernetwork(tmp_path / "code.pt", CPU)


def test_tags_are_taken_out_and_read() -> None:
    assert take_extra_networks("a<hypernet:x:0.5> b <lora:l><hypernet:y>") == ExtraNetworks(
        "a b ",
        take_extra_networks("<lora:l>").loras,
        (Hypernetwork(name="x", weight=0.5), Hypernetwork(name="y")),
    )
    for tag in ("<hypernet:x:much>", "<hypernet:x:nan>"):
        with pytest.raises(Refused, match="hypernet:name:weight"):
            take_extra_networks(tag)


def test_keys_and_values_come_from_what_it_makes_of_context_and_picture(family: Any) -> None:
    found = family.hypernetworks.find([Hypernetwork(name="all", weight=0.7)])
    (layers, _), *_ = found.networks
    attention = family.unet.mid_block.attentions[0].transformer_blocks[0]
    x, context = torch.randn(2, 5, 64), torch.randn(2, 7, 64)
    with torch.inference_mode():
        for module, given in ((attention.attn1.to_k, x), (attention.attn2.to_v, context)):
            which = int(module is attention.attn2.to_v)
            wanted = module(given + 0.7 * layers[64][which](given))
            before = module(given)
            family.hypernetworks.apply(found)
            assert torch.allclose(module(given), wanted, atol=1e-6)
            family.hypernetworks.apply(NO_HYPERNETWORKS)
            assert torch.equal(module(given), before)


def test_networks_beside_the_unet_wear_it_while_they_run_with_it(family: Any) -> None:
    found = family.hypernetworks.find([Hypernetwork(name="all")])
    beside = nn.ModuleDict({"attention": nn.ModuleDict({"to_k": nn.Linear(64, 64)})})
    key = beside["attention"]["to_k"]  # type: ignore[index]
    x = torch.randn(1, 3, 64)
    with torch.inference_mode():
        before = key(x)
        family.hypernetworks.apply(found, beside)
        worn = key(x)
        assert not torch.allclose(worn, before, atol=1e-3)
        family.hypernetworks.apply(found, beside, beside)
        assert torch.equal(key(x), worn), "once, though two units have it"
        family.hypernetworks.apply(found)
        assert torch.equal(key(x), before)
        family.hypernetworks.apply(NO_HYPERNETWORKS)


def test_rows_of_others_are_in_calls_of_their_own_and_see_nothing_of_it(family: Any) -> None:
    """A picture is the same beside one with a hypernetwork, and one with it is another picture."""
    prompts = {name: f"the cat <hypernet:all:{name}>" for name in ("0.7", "0.3", "0")}
    with Engine(family, slots=4, deterministic=False) as engine:
        alone = {name: engine.submit(_with(prompt)).result(120) for name, prompt in prompts.items()}
        futures = {name: engine.submit(_with(prompt)) for name, prompt in prompts.items()}
        together = {name: future.result(120) for name, future in futures.items()}
        plain = engine.submit(_with("the cat ")).result(120)
    for name in prompts:
        assert abs(alone[name].astype(int) - together[name].astype(int)).max() <= 1
    assert (alone["0"] == plain).all()
    assert len({picture.tobytes() for picture in alone.values()}) == 3


def _with(prompt: str) -> Any:
    return replace(render(1), prompt=prompt)


def test_what_is_not_there_or_does_not_fit_is_refused_by_name(family: Any) -> None:
    assert family.hypernetworks.names == ["all", "wide"]
    for name, reason in {
        "None": "use all, wide|Known are all, wide",
        "nope": "use all, wide|Known are all, wide",
        "wide": "its widths are 16, and this checkpoint's 32, 64",
    }.items():
        with pytest.raises(Refused, match=reason) as refused:
            family.hypernetworks.find([Hypernetwork(name=name)])
        assert refused.value.field == "hypernetwork"
    with pytest.raises(Refused, match=r"SD 1\.x, 2\.x or XL"):
        Hypernetworks().find([Hypernetwork(name="all")])


def test_the_last_weight_of_a_name_holds_and_0_is_none(family: Any) -> None:
    def weights(*given: float) -> list[float]:
        wanted = [Hypernetwork(name="all", weight=each) for each in given]
        return [weight for _, weight in family.hypernetworks.find(wanted).networks]

    assert weights(0.2, 0.9) == [0.9, 0.9]
    assert weights(0.2, 0) == []
    assert family.hypernetworks.find([]) == NO_HYPERNETWORKS


@pytest.mark.parametrize(("config_file", "kept"), [("one.yaml", 1), ("another.yaml", 0)])
def test_a_refiner_of_another_form_does_without_as_in_a1111(family: Any, config_file: str, kept: int) -> None:
    first, second = (
        Loaded.of(replace(family, config_file=each), deterministic=True) for each in ("one.yaml", config_file)
    )
    own = replace(render(1, refiner_checkpoint="second"), prompt="the cat <hypernet:all:0.5>")
    state = prepare_render(own, first, second)
    assert [len(phase.hypernetworks.networks) for phase in state.phases] == [1, kept]


def test_a_condition_says_that_it_cannot_share_a_call_with_others(family: Any) -> None:
    text = checkpoints.embedded(family, "the cat")
    changed = family.hypernetworks.find([Hypernetwork(name="all")])

    def condition(ratio: float = 0.0, **more: Any) -> Condition:
        made: Condition = family.condition(text, Params(token_merging_ratio=ratio), **more)
        return made

    others = [condition(), condition(hypernetworks=changed), condition(ratio=0.5)]
    assert len({each.shares for each in others}) == 3
    assert condition(ratio=0.5).shares == others[2].shares
    with pytest.raises(ValueError, match="change the denoiser alike"):
        Conditions.stack(others[:2])


@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_merged_tokens_are_those_of_each_row_alone_and_leave_no_trace(family: Any, ratio: float) -> None:
    """Whatever else is in a call, a row's tokens are merged with its own; the next call is as before."""
    text = checkpoints.embedded(family, "the cat")
    x, t = torch.randn(3, 4, 16, 8, generator=torch.Generator().manual_seed(2)), torch.full((3,), 400.0)

    def answers(x: Tensor, merged: float) -> Tensor:
        condition = family.condition(text, Params(token_merging_ratio=merged))
        found: Tensor = family.predict(x, t[: len(x)], Conditions.stack([condition] * len(x)))
        return found

    before = answers(x, 0)
    together = answers(x, ratio)
    assert not torch.allclose(together, before, atol=1e-3)
    for row in range(3):
        assert torch.allclose(answers(x[row : row + 1], ratio)[0], together[row], atol=1e-4)
    assert torch.equal(answers(x, 0), before)
