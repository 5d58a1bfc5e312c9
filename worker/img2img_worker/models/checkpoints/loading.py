"""Loads checkpoints: from a name to a model on its device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import torch

from img2img_shared.errors import Refused
from img2img_shared.settings import Settings
from img2img_worker.models.adapters import hypernetworks, lora
from img2img_worker.models.checkpoints import catalog
from img2img_worker.models.checkpoints.diffusers_folder import read_folder
from img2img_worker.models.checkpoints.family_builder import build_family
from img2img_worker.models.checkpoints.network_builder import NetworkBuilder
from img2img_worker.models.checkpoints.parts import CheckpointParts
from img2img_worker.models.checkpoints.single_file import read_single_file
from img2img_worker.models.checkpoints.vae_files import VaeFiles
from img2img_worker.models.control import clip_vision, control_nets
from img2img_worker.models.families.family import Family
from img2img_worker.models.float8 import check_device
from img2img_worker.models.prompts import textual_inversion

P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class ReadCheckpoint:
    """A checkpoint in the host's memory or mapped from its files, and the builder of its networks."""

    parts: CheckpointParts
    builder: NetworkBuilder

    @property
    def size(self) -> int:
        """Most bytes of the host's memory that it takes while it waits to be built."""
        weights = [weight for part in self.parts.components for weight in part.weights.values()]
        if self.builder.device.type == "cpu":  # it waits as the model that was built
            return sum(weight.numel() for weight in weights) * self.builder.dtype.itemsize
        return sum(weight.nbytes for weight in weights)

    def build(self) -> Family:
        """The model on its device.

        Raises:
            Refused: the family cannot be served, or weights do not fit their configuration.
        """
        with _making_sense(self.parts.source):
            return build_family(self.builder, self.parts)

    def copied(self) -> "ReadCheckpoint":
        """A copy in memory of its own, so that its files may change or vanish."""
        return replace(self, parts=self.parts.copied())


def load(model: str | Path, settings: Settings) -> Family:
    """The checkpoint that a worker with these settings serves as `model` (a name or a path).

    Raises:
        Refused: as `open_checkpoint`; an unknown name; a device that torch does not have.
    """
    return read(model, settings).build()


def read(model: str | Path, settings: Settings) -> ReadCheckpoint:
    """As `load`, but without building it on the device."""
    return read_for(catalog.find_model(model, settings.models_dir), settings)


def read_for(path: Path, settings: Settings) -> ReadCheckpoint:
    """The checkpoint at `path`, as a worker with these settings reads it.

    Raises:
        Refused: as `open_checkpoint`; a device that torch does not have.
    """
    device = find_device(settings.device)
    dtype, vae_dtype = precisions(settings, device)
    return read_checkpoint(
        path,
        device=device,
        dtype=dtype,
        vae_dtype=vae_dtype,
        float8=settings.weights_dtype is not None,
        vae_tile=settings.vae_tile,
        allow_pickles=settings.allow_pickles,
        lora_folder=settings.models_dir and settings.models_dir / lora.FOLDER,
        inversion_folders=textual_inversion.inversion_folders(settings.models_dir),
        control_folders=control_nets.control_folders(settings.models_dir),
        models_dir=settings.models_dir,
        compiler="inductor" if settings.compile else None,
    )


def precisions(settings: Settings, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """The model's precision and its VAE's.

    On a GPU both are float16 by default, as in A1111. In deterministic mode the VAE's is float32, in which
    nothing overflows.
    """
    is_cpu = device.type == "cpu"
    dtype = settings.dtype or ("float32" if is_cpu else "float16")
    vae_dtype = settings.vae_dtype or ("float32" if is_cpu or settings.deterministic else dtype)
    return getattr(torch, dtype), getattr(torch, vae_dtype)


def read_checkpoint(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    vae_dtype: torch.dtype = torch.float32,
    float8: bool = False,
    vae_tile: int | None = None,
    allow_pickles: bool = False,
    lora_folder: Path | None = None,
    inversion_folders: tuple[Path, ...] = (),
    models_dir: Path | None = None,
    control_folders: tuple[Path, ...] = (),
    compiler: str | None = None,
) -> ReadCheckpoint:
    """The checkpoint at `path`: a folder in the diffusers layout, or a file in the original one.

    Nothing is downloaded.

    Args:
        vae_dtype: separate, since some of Stable Diffusion's VAEs overflow in float16; see `Vae`.
        float8: keep the weights of the denoiser and the text encoders in 8 bits.
        vae_tile: pictures with a side above this many pixels go through the VAE in tiles of this size.
        lora_folder: where LoRAs are looked for when prompts name them.
        inversion_folders: where textual inversions are looked for.
        models_dir: where hypernetworks and VAEs are looked for, among these the VAE that A1111 takes for this
            checkpoint by itself.
        control_folders: where control networks are looked for when images name them.
        compiler: backend of ``torch.compile`` for the denoiser, which then compiles at its first call in
            each shape; see `Engine.warm_up`. None: it is not compiled.

    Raises:
        Refused: it is missing, no checkpoint, of an unknown family, incomplete or broken; or `float8` and the
            device cannot work with weights in 8 bits.
    """
    path = Path(path)
    if not path.exists():
        raise Refused(
            "model", str(path), "no such file or folder; give a checkpoint folder or a .safetensors file"
        )
    if float8:
        check_device(torch.device(device), compiles=compiler is not None)
    vae_files = VaeFiles.of(models_dir, path)
    with _making_sense(str(path)):
        if path.is_dir():
            parts = read_folder(path, allow_pickles=allow_pickles)
        else:
            parts = read_single_file(path, vae=vae_files.automatic(), allow_pickles=allow_pickles)
    builder = NetworkBuilder(
        device=torch.device(device),
        dtype=dtype,
        vae_dtype=vae_dtype,
        float8=float8,
        vae_tile=vae_tile,
        lora_folder=lora_folder,
        inversion_folders=inversion_folders,
        hypernetwork_folder=models_dir and models_dir / hypernetworks.FOLDER,
        vae_files=vae_files,
        control_folders=control_folders,
        clip_folders=clip_vision.clip_folders(models_dir),
        allow_pickles=allow_pickles,
        compiler=compiler,
    )
    return ReadCheckpoint(parts=parts, builder=builder)


@contextmanager
def _making_sense(source: str) -> Iterator[None]:
    """Refuses a checkpoint whose shapes or settings no reader expects.

    torch's RuntimeError passes through: the device may be the cause.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"its tensors or settings make no sense ({type(error).__name__}: {error}); use another copy"
        raise Refused("model", source, reason) from error


def _and_built(read: Callable[P, ReadCheckpoint]) -> Callable[P, Family]:
    @wraps(read)
    def opened(*args: P.args, **kwargs: P.kwargs) -> Family:
        return read(*args, **kwargs).build()

    return opened


#: as `read_checkpoint`, but returns the model on its device
open_checkpoint = _and_built(read_checkpoint)


def find_device(name: str) -> torch.device:
    """torch's device of that name; "auto" is the first GPU, else the CPU.

    Raises:
        Refused: torch has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        has = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise Refused("device", name, f"give auto, {has}") from None
    return device
