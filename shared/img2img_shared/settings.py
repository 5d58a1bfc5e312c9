"""All settings from environment variables. Nothing else in the project reads the environment."""

import getpass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from img2img_shared.durations import Duration

#: sizes of pictures in pixels, as `Settings.compile` has them
SIZES = r"^\d{2,4}x\d{2,4}(,\d{2,4}x\d{2,4})*$"
#: torch's names of devices, as `Settings.device` has them
DEVICES = r"auto|(cpu|mps|xpu|cuda(:\d{1,2})?)(,(cpu|mps|xpu|cuda(:\d{1,2})?))*"


Acknowledge = Literal["memory", "disk", "replica"]


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container whose user has no name
        return "unknown"


class Settings(BaseSettings):
    """``IMG2IMG_…`` variables; with none of them set, everything is embedded under `data_dir`."""

    model_config = SettingsConfigDict(env_prefix="IMG2IMG_", frozen=True, extra="ignore")

    #: https:// URL of a farm's gateway, for clients that cannot reach its Redis; unset: they do
    farm_url: str | None = None
    #: API key for that gateway
    key: str | None = Field(default=None, repr=False)
    #: redis://, rediss://, unix:// or sentinel:// URL (docs/redis.md); unset: a server in `data_dir`
    redis_url: str | None = None
    #: folder, file://, s3://bucket/prefix, gs://, az:// or memory://; unset: a folder in `data_dir`
    store_url: str | None = None
    #: folder of the embedded server, the folder store and caches
    data_dir: Path = Path.home() / ".img2img"
    #: folder of the checkpoints that workers serve by name, including those in its subfolders; LoRAs are in
    #: its folder "Lora", textual inversions in "embeddings", control networks in "ControlNet", upscalers in
    #: "ESRGAN", "SwinIR", ..., as in A1111
    models_dir: Path | None = None
    #: folder in which all workers of a machine keep the models that they have fetched from the store;
    #: unset: a folder in `data_dir`
    model_cache: Path | None = None
    #: its size in GiB, at most: the least recently used models make room; 0: nothing is fetched
    model_cache_size: Annotated[float, Field(ge=0, le=1_000_000)] = 100
    #: first part of every ledger key, so that farms can share a Redis
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = "img2img"
    #: the tenant that submits and sees jobs
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")] = "default"
    #: owner of submitted jobs, and author of changes, where no API key says it; by default the login name
    owner: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,200}$", default_factory=_login)]

    #: seconds for which a worker holds an image without a sign of life; then others get it
    lease: Annotated[float, Field(ge=1, le=3600)] = 30.0
    #: what a submit waits for before it returns: that the job is in Redis' memory, on its disk (version 7.2,
    #: with an append-only file), or in a replica's memory (with sentinels, in every replica's)
    acknowledge: Acknowledge = "memory"
    #: seconds after which Redis forgets a finished job whose results are kept forever
    keep_jobs: Annotated[int, Field(ge=60)] = 7 * 24 * 3600
    #: how long a job is kept after its end, with its results and inputs, unless it says otherwise:
    #: "30d", "12h", "forever"
    keep: Duration = None
    #: how long an uploaded picture that no job names is kept
    keep_uploads: Duration = 7 * 24 * 3600.0
    #: how long a job of which only the store knows stays listed before it is removed
    keep_orphans: Duration = None

    #: HOST:PORT at which a worker or gateway serves metrics to Prometheus (docs/metrics.md); unset: nowhere
    metrics: Annotated[str, Field(pattern=r"^(\S+:\d{1,5})?$")] = ""
    #: format of a worker's log: lines for people, or JSON for programs
    log_format: Literal["text", "json"] = "text"

    #: torch devices of a worker, "cuda:0,cuda:1", with a process for each; "auto": every GPU, or else the CPU
    device: Annotated[str, Field(pattern=rf"^({DEVICES})$")] = "auto"
    #: precision of the model; unset: float32 on a CPU, float16 on a GPU
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    #: precision of the VAE; if a picture overflows in half precision, it and all later ones are run in
    #: float32, as in A1111; unset: the model's, but float32 on a CPU and in deterministic mode
    vae_dtype: Literal["float32", "float16", "bfloat16"] | None = None
    #: precision in which weights of linear and convolutional layers are kept, except the VAE's: "float8"
    #: takes half of float16's memory, as A1111's "FP8 weight"; unset: that of `dtype`
    weights_dtype: Literal["float8"] | None = None
    #: pictures wider or higher than this many pixels go through the VAE in overlapping tiles, which limits
    #: its memory and changes colours a little; unset: whole, as in A1111
    vae_tile: Annotated[int, Field(ge=256, le=2048, multiple_of=64)] | None = None
    #: GiB of the host's memory in which each worker process keeps the most recently used models that are not
    #: on its device; others are read from the disk again
    host_memory: Annotated[float, Field(ge=0, le=100_000)] = 16
    #: checkpoints that a worker keeps besides its own, for refiners and second passes of hires fixes; an
    #: image that needs two has both while it is rendered; 0: none
    other_checkpoints: Annotated[int, Field(ge=0, le=64)] = 1
    #: images in flight; unset: 32 on a GPU, 4 on a CPU; "auto": as many as pay, measured at start
    slots: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] | None = None
    #: sizes of pictures, "512x512,768x512", for which the model is compiled at start; others run uncompiled
    compile: Annotated[str, Field(pattern=SIZES)] | None = None
    #: whether pictures have the same bytes whatever is rendered beside them; unset: on a CPU only
    deterministic: bool | None = None
    #: seconds between two previews of an image whose job somebody watches; 0: no previews
    preview_seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0
    #: most pixels an init image may have
    max_pixels: Annotated[int, Field(ge=64 * 64)] = 64_000_000
    #: allow checkpoints that are pickles (.ckpt, .bin): these can run code
    allow_pickles: bool = False

    @property
    def compiled_sizes(self) -> list[tuple[int, int]]:
        """`compile` as (width, height) of each size."""
        sizes = [size.split("x") for size in (self.compile or "").split(",") if size]
        return [(int(width), int(height)) for width, height in sizes]
