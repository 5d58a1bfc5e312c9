"""What is no checkpoint is refused in one line that says what would be one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from img2img_shared.errors import Refused
from img2img_shared.settings import Settings
from img2img_worker.models.checkpoints.loading import find_device, load, open_checkpoint
from tests import checkpoints
from tests.original import write_original


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that a test may spoil."""
    made = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    return Path(shutil.copytree(made, tmp_path / "model"))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


Spoil = Callable[[Path], object]
SPOILED: dict[str, tuple[Spoil, str]] = {
    "no model_index.json": (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing in it"),
    "model_index.json is no JSON": (
        lambda f: (f / "model_index.json").write_text("{"),
        "cannot be read as JSON",
    ),
    "model_index.json is a list": (lambda f: (f / "model_index.json").write_text("[]"), "no JSON object"),
    "another pipeline": (
        lambda f: edit_json(f / "model_index.json", _class_name="KandinskyPipeline"),
        "it is KandinskyPipeline; use a Stable Diffusion checkpoint",
    ),
    "no text encoder": (
        lambda f: edit_json(f / "model_index.json", text_encoder=[None, None]),
        "it lacks the first text encoder",
    ),
    "no unet": (lambda f: shutil.rmtree(f / "unet"), "config.json is missing in it"),
    "no weights": (
        lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
        "the folder has no .safetensors weights",
    ),
    "truncated weights": (
        lambda f: _truncate(f / "vae" / "diffusion_pytorch_model.safetensors"),
        "cannot be read as .safetensors",
    ),
    "weights are text": (
        lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").write_text("hello there, I am a file"),
        "cannot be read as .safetensors",
    ),
    "a weight is missing": (
        lambda f: _drop(f / "unet" / "diffusion_pytorch_model.safetensors", "conv_in.weight"),
        "it lacks conv_in.weight",
    ),
    "weights of another network": (
        lambda f: edit_json(f / "unet" / "config.json", cross_attention_dim=32),
        "it has another size of",
    ),
    "a shallower network": (
        lambda f: edit_json(f / "text_encoder" / "config.json", num_hidden_layers=1),
        "it does not know",
    ),
    "a configuration that makes no sense": (
        lambda f: edit_json(f / "unet" / "config.json", down_block_types=["NoSuchBlock", "DownBlock2D"]),
        "its configuration fits no network",
    ),
    "another VAE": (
        lambda f: edit_json(f / "vae" / "config.json", _class_name="AutoencoderTiny"),
        "its class is AutoencoderTiny, where AutoencoderKL is expected",
    ),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "put tokenizer.json there"),
    "a broken tokenizer": (
        lambda f: (f / "tokenizer" / "tokenizer.json").write_text("{}"),
        "no CLIP tokenizer",
    ),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json is missing in it"),
    "an unknown prediction": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", prediction_type="sample"),
        "model.prediction_type is 'sample': use a checkpoint that predicts one of epsilon, v_prediction",
    ),
    "an unknown beta schedule": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", beta_schedule="cosine"),
        "model.beta_schedule is 'cosine': use linear or scaled_linear",
    ),
    "betas that are none": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", beta_end="high"),
        "its numbers make no sense",
    ),
    "endless training steps": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", num_train_timesteps=1e999),
        "make no sense",
    ),
    "a prediction that is no name": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", prediction_type={}),
        "make no sense",
    ),
    "no training steps": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", num_train_timesteps=0),
        "its numbers make no sense (0 training steps)",
    ),
    "more training steps than there is memory for": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", num_train_timesteps=10**12),
        "its numbers make no sense (1000000000000 training steps)",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_folder_is_refused(spoil: Spoil, message: str, folder: Path) -> None:
    spoil(folder)
    with pytest.raises(Refused) as refused:
        open_checkpoint(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_folder_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"model_index.json is missing in it"):
        open_checkpoint(tmp_path)
    with pytest.raises(Refused, match="no such file or folder"):
        open_checkpoint(tmp_path / "nowhere")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no checkpoint")
    with pytest.raises(Refused, match=r"a .safetensors file, or a folder"):
        open_checkpoint(tmp_path / "notes.txt")


def test_a_unet_that_wants_a_depth_map_is_refused(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"] = torch.zeros(32, 5, 3, 3)
    save_file(weights, path)
    edit_json(folder / "unet" / "config.json", in_channels=5)
    with pytest.raises(Refused, match="its UNet has 5 input channels; use one with 4, 8 or 9"):
        open_checkpoint(folder)


def test_pickles_are_read_only_where_they_are_allowed(folder: Path, tmp_path: Path) -> None:
    weights = load_file(write_original(folder, tmp_path / "model.safetensors"))
    torch.save({"state_dict": weights, "global_step": 3}, tmp_path / "model.ckpt")
    with pytest.raises(Refused, match="pickles can run code"):
        open_checkpoint(tmp_path / "model.ckpt")
    assert open_checkpoint(tmp_path / "model.ckpt", allow_pickles=True).name == "SD 1.x"


def test_a_pickle_that_runs_code_is_refused_even_then(tmp_path: Path) -> None:
    torch.save({"state_dict": Harmful(tmp_path / "harm")}, tmp_path / "model.ckpt")
    with pytest.raises(Refused, match=r"tensors \(damaged, or a pickle that holds more than tensors\);"):
        open_checkpoint(tmp_path / "model.ckpt", allow_pickles=True)
    assert not (tmp_path / "harm").exists()


def test_an_unknown_name_is_refused_with_the_known_ones(folder: Path) -> None:
    settings = Settings(models_dir=folder.parent, device="cpu")
    assert load("model", settings).name == "SD 1.x"
    with pytest.raises(Refused, match="or one of model"):
        load("modell", settings)


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    for name in ("tpu", "cuda:99"):
        with pytest.raises(Refused, match=r"give auto, cpu"):
            find_device(name)


class Harmful:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _drop(path: Path, key: str) -> None:
    weights = load_file(path)
    del weights[key]
    save_file(weights, path)
