"""Jobs, their inputs, and the states an image goes through."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from img2img_shared.durations import Duration
from img2img_shared.errors import Refused
from img2img_shared.own_params import with_own
from img2img_shared.params import Params
from img2img_shared.pushed_models.pushed_model import ModelFiles
from img2img_shared.roles import Role
from img2img_shared.seeds import seeds_of, shift_seed

#: inputs of a job are stored in pages of so many, so that the ledger's share of a job is O(1)
PAGE = 1000

#: of a picture: its tenant's folder, and its SHA-256. Older jobs name pictures that all tenants shared.
StoreKey = Annotated[str, Field(pattern=r"^inputs/([A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}/)?[0-9a-f]{64}$")]


JobName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
#: a word that jobs are found by
Tag = Annotated[str, Field(max_length=64, pattern=r"^[^\s,\x00-\x1f\x7f-\x9f]{1,64}$")]
#: each once, in order
Tags = Annotated[tuple[Tag, ...], Field(max_length=20), AfterValidator(lambda tags: tuple(sorted({*tags})))]


class ImageState(StrEnum):
    """The state of an image."""

    PENDING = "pending"  # waits for a worker
    RUNNING = "running"  # an attempt holds its lease
    DONE = "done"  # its picture is in the store
    FAILED = "failed"  # it ended with a reason; `retry` gives it another chance
    CANCELLED = "cancelled"  # its job was cancelled before it was done


class JobState(StrEnum):
    """The state of a job."""

    PENDING = "pending"  # no image has begun
    RUNNING = "running"  # some image has begun, some is not done
    PAUSED = "paused"  # nothing of it is given out
    CANCELLED = "cancelled"
    DONE = "done"  # every image is done
    FAILED = "failed"  # every image has ended, and some failed


def _check_folder(folder: str) -> str:
    if any(part in ("", ".", "..") or not part.isprintable() or "\\" in part for part in folder.split("/")):
        raise Refused("folder", folder, "give a folder below that of the results, such as portraits/2024")
    return folder


#: where outputs go within their job's results
Folder = Annotated[str, Field(max_length=1000), AfterValidator(_check_folder)]


class Input(BaseModel):
    """One input of a job: keys of its pictures in the store, and its own parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: store keys of encoded pictures, by their SHA-256; they replace the job's of the same roles
    pictures: dict[Role, StoreKey] = {}
    #: replace the job's; as `check_own` gives them
    params: dict[str, Any] = {}
    #: how the user calls it (a file's stem); never part of a store key
    name: Annotated[str, Field(max_length=255)] | None = None
    folder: Folder | None = None
    #: where the user has it (a file's path, the name it was uploaded under): for people, never opened
    path: Annotated[str, Field(max_length=4096)] | None = None


class Job(BaseModel):
    """A job as the ledger keeps it: its size does not depend on the number of images.

    The inputs are in the store, in pages of `PAGE`, under `inputs_key(id, page)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
    #: the checkpoint, by the name workers serve it under
    model: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
    #: with seeds that are drawn: one of -1 is that number, which others may count up to
    params: Params
    n_inputs: Annotated[int, Field(ge=1, le=10_000_000)]
    #: for all inputs that bring none of the same role
    pictures: dict[Role, StoreKey] = {}
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "default"
    #: for people, to find it by; jobs may share one
    name: JobName | None = None
    #: who submitted it: the name of their key, or their login
    owner: JobName | None = None
    tags: Tags = ()
    #: seconds for which its results and inputs are kept after its end; None: for ever
    keep: Duration = None
    #: higher goes first
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    #: pushed files that it names, its checkpoint among them, by `named.key_of`: what it renders with,
    #: whatever these names come to mean
    files: ModelFiles = {}

    @property
    def n(self) -> int:
        """The number of images: inputs in order, each ``images_per_input`` times."""
        return self.n_inputs * self.params.images_per_input

    def output(self, index: int) -> tuple[int, int]:
        """(input, repeat) of image `index`."""
        return divmod(index, self.params.images_per_input)

    def pictures_of(self, item: Input) -> dict[Role, StoreKey]:
        """Store keys of the pictures that `item` is rendered from."""
        found = {**self.pictures, **item.pictures}
        if self.params_of(item).txt2img:
            found = {role: key for role, key in found.items() if role not in ("image", "mask")}
        return found

    def params_of(self, item: Input) -> Params:
        """The parameters that `item` is rendered with.

        Raises:
            WireError: a newer version wrote them.
        """
        return with_own(self.params, item.params)

    def seeds(self, index: int, item: Input | None = None) -> tuple[int, int]:
        """(seed, subseed) of image `index`, whose input is `item`; None: one without own parameters.

        The job's seeds count up over all its images, an input's own over its outputs.
        """
        item = item or Input()
        params, (_, repeat) = self.params_of(item), self.output(index)
        at, sub_at = (repeat if name in item.params else index for name in ("seed", "subseed"))
        if "seed" in item.params:
            sub_at = repeat
        if params.seed_mode == "same":
            at = sub_at = 0
        if params.sd_upscale:  # the script counts seeds whatever the strength, and leaves subseeds to tiles
            return shift_seed(params.seed, at), params.subseed
        return seeds_of(params.seed, params.subseed, params.subseed_strength, at, sub_at)


def picture_key(tenant: str, digest: str) -> str:
    """Store key of a tenant's picture with this SHA-256 (in hexadecimal)."""
    return f"inputs/{tenant}/{digest}"


def picture_digest(key: str) -> str:
    """SHA-256 (in hexadecimal) of the picture at a store key."""
    return key.rpartition("/")[2]


def inputs_folder(job_id: str) -> str:
    """The folder of the store with the pages of a job's inputs."""
    return f"jobs/{job_id}/inputs"


def inputs_key(job_id: str, page: int) -> str:
    """Store key of one page of a job's inputs."""
    return f"{inputs_folder(job_id)}/{page:06d}.msgpack"


def loop_name(number: int) -> str:
    """The name under which the result of an earlier loop is stored beside the last one's."""
    return f"loop-{number}"


def shared_inputs_key(job_id: str) -> str:
    """Store key of the pictures that all inputs of a job share, written as a page of one input."""
    return f"{inputs_folder(job_id)}/shared.msgpack"


def result_key(job_id: str, index: int, output_format: str, beside: str = "") -> str:
    """Store key of a finished picture, or of what is stored beside it ("mask", "mask-composite")."""
    name = f"{index}-{beside}" if beside else str(index)
    return f"jobs/{job_id}/{name}.{'jpg' if output_format == 'jpeg' else output_format}"
