"""The VAEs that the images of one checkpoint may use, loaded on demand."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from img2img_shared.checkpoints import sha256_of
from img2img_shared.errors import Refused
from img2img_shared.lru_cache import LruCache
from img2img_shared.params import Params
from img2img_shared.suggestions import unknown_name
from img2img_worker.models.checkpoints.vae_files import TINY_FOLDER, VaeFiles
from img2img_worker.models.families.vae import Autoencoder
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles

#: bytes of VAEs that stay on the device beside the checkpoint's own; the least recently used go first, and
#: the one used last stays, whatever its size
REMEMBERED = 1 << 30
#: the method of encoding, decoding or previewing that uses TAESD
TINY = "TAESD"
#: digits of a hash in an infotext
_SHORT = 10

Kind = Literal["vae", "own", "encoder", "decoder"]


@dataclass(frozen=True, kw_only=True)
class VaeFile:
    """A file at a moment. Equal as long as nobody has written to it."""

    path: Path
    #: of its last modification, in nanoseconds since 1970
    time: int
    #: bytes
    size: int
    #: what to read from it: a VAE, the VAE within the checkpoint, or one half of TAESD
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class VaeChoice:
    """What encodes and decodes one image; None: the VAE that was loaded with the checkpoint."""

    vae: VaeFile | None = None
    #: `vae`, or TAESD's half
    encoder: VaeFile | None = None
    decoder: VaeFile | None = None
    #: what decodes its previews; None: a linear map of latents to colours
    preview: VaeFile | None = None


class Vaes:
    """Finds VAEs by name, as A1111 does, and keeps the last ones.

    Args:
        files: finds them; its `automatic` one was loaded with the checkpoint.
        tiny: the name of this family's TAESD files, up to "_encoder.pth".
        read: reads a file; raises `Refused` if it is no VAE for this checkpoint.
    """

    def __init__(
        self,
        files: VaeFiles,
        *,
        tiny: str,
        read: Callable[[VaeFile], Autoencoder],
    ) -> None:
        self._files = files
        self._tiny = tiny
        self._read = read
        automatic = self._files.automatic()
        self.automatic = None if automatic is None else _vae_file(automatic, "vae")
        self._loaded: LruCache[VaeFile, Autoencoder] = LruCache(_bytes)
        self._loading = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names of the files that are there now."""
        return list(self._files.by_name())

    def find(self, params: Params, pinned: PinnedFiles = NOTHING_PINNED) -> VaeChoice:
        """The VAEs of an image with these parameters, loaded to see that they work; thread-safe.

        Raises:
            Refused: one is not there, is broken, or is for another kind of checkpoint.
            MemoryError: the device has no room for it.
        """
        vae = self._of(params, pinned)
        methods = params.sd_vae_encode_method, params.sd_vae_decode_method
        encoder = self._tiny_half("encoder", "sd_vae_encode_method") if methods[0] == TINY else vae
        decoder = self._tiny_half("decoder", "sd_vae_decode_method") if methods[1] == TINY else vae
        preview = (
            self._tiny_half("decoder", "show_progress_type") if params.show_progress_type == TINY else None
        )
        for file in (encoder, decoder, preview):
            if file is not None:
                self._check(file)
        return VaeChoice(vae=vae, encoder=encoder, decoder=decoder, preview=preview)

    def get(self, file: VaeFile) -> Autoencoder:
        """The VAE in a file, read again if it is not kept any more; thread-safe.

        Raises:
            Refused: it is broken, or is for another kind of checkpoint.
        """
        with self._loading:
            vae = self._loaded.get(file)
            if vae is None:
                vae = self._read(file)
                self._loaded.put(file, vae)
                self._loaded.trim(REMEMBERED)
            return vae

    def name_and_hash(self, params: Params, pinned: PinnedFiles = NOTHING_PINNED) -> tuple[str, str] | None:
        """File name and A1111's short hash of an image's VAE; None: it is the checkpoint's own.

        Raises:
            Refused: it is not there.
        """
        named = self._of(params, pinned)
        file = self.automatic if named is None else named
        if file is None or file.kind == "own":
            return None
        try:
            return file.path.name, sha256_of(file.path)[:_SHORT]
        except OSError as error:
            raise _unreadable(file.path, error) from None

    def _of(self, params: Params, pinned: PinnedFiles) -> VaeFile | None:
        name = params.vae
        keeps_own = self.automatic is not None and not params.sd_vae_overrides_per_model_preferences
        if name == "Automatic" or keeps_own:
            return None
        if name == "None":
            checkpoint = self._files.checkpoint
            return None if checkpoint is None or self.automatic is None else _vae_file(checkpoint, "own")
        if (path := pinned.get("vae", name)) is not None:
            return _vae_file(path, "vae")
        known = self._files.by_name()
        if name not in known:
            raise Refused("vae", name, unknown_name("VAE", name, ["Automatic", "None", *known]))
        file = _vae_file(known[name], "vae")
        return None if file == self.automatic else file

    def _tiny_half(self, half: Literal["encoder", "decoder"], field: str) -> VaeFile:
        path = self._files.tiny(f"{self._tiny}_{half}")
        if path is None:
            wanted = f"{TINY_FOLDER}/{self._tiny}_{half}.pth"
            raise Refused(field, TINY, f"the worker has no {wanted} in its folder of models; use Full")
        return _vae_file(path, half)

    def _check(self, file: VaeFile) -> None:
        try:
            self.get(file)
        except torch.OutOfMemoryError:
            raise MemoryError(f"no memory for VAE {file.path.name} beside what is in flight") from None


def _vae_file(path: Path, kind: Kind) -> VaeFile:
    try:
        about = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return VaeFile(path=path, time=about.st_mtime_ns, size=about.st_size, kind=kind)


def _bytes(vae: Autoencoder) -> int:
    return sum(weight.nbytes for weight in vae.network.parameters())


def _unreadable(path: Path, error: OSError) -> Refused:
    return Refused("vae", path.name, f"the file cannot be read ({error.strerror})")
