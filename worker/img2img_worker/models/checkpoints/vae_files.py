"""Finds VAEs' files where A1111 looks for them, and reads them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from img2img_shared.checkpoints import PICKLES, SAFE
from img2img_shared.checkpoints import VAES as BESIDE
from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_worker.models.checkpoints.key_mapping_parts import vae_component
from img2img_worker.models.checkpoints.parts import Component
from img2img_worker.models.checkpoints.quantized import unscaled
from img2img_worker.models.checkpoints.single_file_flow import VAES
from img2img_worker.models.checkpoints.tensors import Tensors
from img2img_worker.models.checkpoints.weights import read_weights

#: their folders in a folder of models, as in A1111: whole VAEs, and TAESD's
FOLDER, TINY_FOLDER = "VAE", "VAE-taesd"
#: endings of TAESD's files
_TINY_ENDINGS = (".pth", ".safetensors")
#: endings in the order in which A1111 goes through files
_ENDINGS = (".ckpt", ".pt", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class VaeFiles:
    """The files of VAEs for one checkpoint, looked up at each call."""

    #: the folder of models; None: only the checkpoint's own folder is searched
    models_dir: Path | None = None
    #: the checkpoint's file; None: it is a folder, with nothing beside it
    checkpoint: Path | None = None

    @classmethod
    def of(cls, models_dir: Path | None, checkpoint: Path) -> Self:
        """The VAEs for a checkpoint's file, or for its folder, which contains its VAE."""
        return cls(models_dir=models_dir, checkpoint=None if checkpoint.is_dir() else checkpoint)

    def by_name(self) -> dict[str, Path]:
        """All by their files' names, in A1111's order; of equal names, the one beside the checkpoint."""
        found: dict[str, Path] = {}
        for path in (*self._beside_checkpoints(), *self._in_folder(), *self._beside()):
            found[path.name] = path
        return found

    def automatic(self) -> Path | None:
        """The VAE that A1111 takes for this checkpoint: the first whose name begins with the checkpoint's."""
        if self.checkpoint is None:
            return None
        name, folder = self.checkpoint.stem, self.checkpoint.parent
        fitting = [path for path in self.by_name().values() if path.name.startswith(name)]
        return min(fitting, key=lambda path: path.parent != folder, default=None)

    def tiny(self, name: str) -> Path | None:
        """TAESD's file of a name such as "taesd_decoder"; None: there is none."""
        if self.models_dir is None:
            return None
        paths = (self.models_dir / TINY_FOLDER / f"{name}{ending}" for ending in _TINY_ENDINGS)
        return next((path for path in paths if path.is_file()), None)

    def _beside_checkpoints(self) -> list[Path]:
        return _in_order(path for path in files_below(self.models_dir, BESIDE))

    def _in_folder(self) -> list[Path]:
        return _in_order(files_below(self.models_dir and self.models_dir / FOLDER, SAFE + PICKLES))

    def _beside(self) -> list[Path]:
        if self.checkpoint is None:
            return []
        others = self.checkpoint.parent.iterdir()
        return _in_order(path for path in others if path.name.lower().endswith(BESIDE) and path.is_file())


def read_vae(path: Path, *, is_checkpoint: bool = False, **scales: Any) -> Component:
    """The VAE in a file in the original layout, its names with or without prefix.

    Of a pickle only tensors are read; no code in it runs.

    Args:
        is_checkpoint: whether the file may hold more than a VAE.
        scales: as `vae_component` takes them.

    Raises:
        Refused: the file cannot be read, holds no complete VAE, or tensors that are not the VAE's.
    """
    read = unscaled(read_weights(path, allow_pickles=True), path)
    prefix = next((each for each in VAES if any(key.startswith(each) for key in read)), "")
    own = {key: value for key, value in read.items() if key.startswith(prefix)}
    other = {} if is_checkpoint else {key: value for key, value in read.items() if key not in own}
    named = {f"{VAES[0]}{key.removeprefix(prefix)}": value for key, value in own.items()}
    weights = Tensors(named | other)
    try:
        component = vae_component(weights, VAES[0], **scales)
    except KeyError as missing:
        raise Refused("vae", path.name, f"it lacks {missing.args[0]}; use a complete VAE") from None
    except (IndexError, ValueError, TypeError):  # from layers of other names or shapes
        reason = "its layers are not those of a VAE in the original layout, as A1111 reads; use another file"
        raise Refused("vae", path.name, reason) from None
    weights.refuse_left(path)
    return component


def read_tiny(path: Path, *, is_decoder: bool, latent_channels: int) -> Component:
    """TAESD's encoder or decoder as its author publishes it, under diffusers' names (AutoencoderTiny).

    Raises:
        Refused: it cannot be read.
    """
    # in a published decoder, number 0 is the clamp before its first layer
    weights = {
        f"layers.{int(number) - is_decoder}.{rest}" if number.isdecimal() else key: value
        for key, value in read_weights(path, allow_pickles=True).items()
        for number, _, rest in [key.partition(".")]
    }
    return Component(config={"latent_channels": latent_channels}, weights=weights)


def _in_order(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (_ENDINGS.index(path.suffix.lower()), path.as_posix()))
