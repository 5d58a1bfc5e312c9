"""A model in the farm's store: a file of weights with what belongs to it, or a folder."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from img2img_shared.checkpoints import folder_hash
from img2img_shared.errors import Refused
from img2img_shared.refusals import refusal
from img2img_shared.upscaler_names import A1111_NAMES

ModelKind = Literal["checkpoint", "lora", "vae", "embedding", "hypernetwork", "control", "upscaler"]
KINDS: tuple[ModelKind, ...] = get_args(ModelKind)
#: what its file may end with; "": it is a folder
Ending = Literal[".safetensors", ".ckpt", ".pt", ".pth", ".bin", ""]
ENDINGS: tuple[Ending, ...] = tuple(each for each in get_args(Ending) if each)
#: files of one model, at most
_MOST_FILES = 1000

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
_NO_NAME = re.compile(r"""^\.|[/\\<>:|?*"\x00-\x1f\x7f-\x9f]|\s$""")


def _check_name(name: str) -> str:
    """Check that a file can have this name on any machine, and that a prompt can contain it."""
    if not _is_name(name):
        raise Refused("name", name, "give a file's name, without / \\ < > : | ? * and quotes")
    return name


def _is_name(text: str) -> bool:
    return text.isprintable() and not _NO_NAME.search(text)


def _check_path(path: str) -> str:
    """Check that it is a path below a folder, on any machine."""
    if not all(part and _is_name(part) for part in path.split("/")):
        raise Refused(
            "files", path, "give a path below the model's folder, without \\ < > : | ? * and quotes"
        )
    return path


ModelName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_name)]
#: SHA-256 of files, by their kinds and what a job calls them: "lora/cat"
ModelFiles = Annotated[
    dict[Annotated[str, Field(pattern=rf"^({'|'.join(KINDS)})/[^\x00-\x1f\x7f-\x9f]{{1,1024}}$")], Sha256],
    Field(max_length=1000),
]

#: digits of a hash that A1111 shows, and that mean a file here
_SHORT = 10
_HASH = re.compile(r"[0-9a-f]{10,64}")


class ModelFile(BaseModel):
    """One of a model's files."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: from the folder that is the model, or in which its file lies: "unet/config.json"
    path: Annotated[str, Field(max_length=400), AfterValidator(_check_path)]
    sha256: Sha256
    #: bytes
    size: Annotated[int, Field(ge=0)]


class NewModel(BaseModel):
    """A model that is being pushed, as its sender describes it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ModelKind
    #: what jobs call it: its file's name without the ending, unless its user said another
    name: ModelName
    #: ".safetensors"; "" of a folder
    ending: Ending
    #: of a folder, that over the names and hashes of its files (`folder_hash`)
    sha256: Sha256
    #: bytes of its file, or of all that is in its folder
    size: Annotated[int, Field(ge=1)]
    #: those in its folder; of a file, those beside it that belong to it (its VAE, its description, ...)
    files: Annotated[tuple[ModelFile, ...], Field(max_length=_MOST_FILES)] = ()

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        paths = [PurePosixPath(each.path) for each in self.contents]
        if len({*paths}) < len(paths) or not {*paths}.isdisjoint(
            each for path in paths for each in path.parents
        ):
            raise Refused("files", [str(each) for each in paths], "two have one place; give each its own")
        if not self.ending and (self.sha256, self.size) != (
            folder_hash((each.path, each.sha256) for each in self.files),
            sum(each.size for each in self.files),
        ):
            raise Refused("sha256", self.sha256, "hash and size are not those of its files; push it again")
        return self

    @classmethod
    def of(cls, **facts: Any) -> Self:
        """A model from these fields.

        Raises:
            Refused: no file could have that name.
        """
        try:
            return cls.model_validate(facts)
        except ValidationError as error:
            raise refusal(error) from None

    @property
    def file_name(self) -> str:
        """The name of its file or folder: the original one, or one with the model's other name."""
        return self.name + self.ending

    @property
    def contents(self) -> tuple[ModelFile, ...]:
        """All of its files in the store's order, with their paths in its folder."""
        if not self.ending:
            return tuple(each.model_copy(update={"path": f"{self.name}/{each.path}"}) for each in self.files)
        return ModelFile(path=self.file_name, sha256=self.sha256, size=self.size), *self.files

    @property
    def total(self) -> int:
        """The size of all of its files in bytes."""
        return sum(each.size for each in self.contents)

    @property
    def contents_hash(self) -> str:
        """A hash of all of its files, which differs if the same weights have other files beside them."""
        if not self.ending or not self.files:
            return self.sha256
        told = "".join(f"{each.path} {each.sha256}\n" for each in self.contents)
        return hashlib.sha256(told.encode()).hexdigest()


class PushedModel(NewModel):
    """A pushed model, as `models/<sha256>/about.json` in the store describes it."""

    #: bytes of each of its objects but the last: its files one after the other, cut into these
    part: Annotated[int, Field(ge=1)]
    #: of a checkpoint: what workers and the ledger call it, which no other file is called
    model: Annotated[str, Field(max_length=300)] = ""
    #: seconds since 1970
    pushed: float
    #: who did it
    by: Annotated[str, Field(max_length=200)] = ""

    @property
    def short_hash(self) -> str:
        return self.sha256[:_SHORT]

    @property
    def title(self) -> str:
        """Its name with a short hash, as A1111 shows it: "anime [6ce0161689]"."""
        return f"{self.name} [{self.short_hash}]"

    @property
    def listed_as(self) -> tuple[str, ...]:
        """Its names in lists: for a VAE, its file's; for an upscaler, A1111's as well."""
        if self.kind == "checkpoint":
            return (self.model,)
        if self.kind == "upscaler":
            return tuple(dict.fromkeys((A1111_NAMES.get(self.name, self.name), self.name)))
        return (self.file_name if self.kind == "vae" else self.name,)

    @property
    def n_parts(self) -> int:
        return -(-self.total // self.part)

    def size_of_part(self, number: int) -> int:
        """The size of one of its objects in bytes."""
        return min(self.part, self.total - number * self.part)

    def is_called(self, wanted: str) -> bool:
        """Whether `wanted` means this model: its name, file name, title or hash (ten digits or more)."""
        titles = {self.name, self.file_name, self.title, f"{self.file_name} [{self.short_hash}]", self.model}
        if self.kind == "upscaler":
            titles.add(A1111_NAMES.get(self.name, self.name))
        return wanted in titles or (bool(_HASH.fullmatch(wanted)) and self.sha256.startswith(wanted))


def read_pushed(document: Any) -> PushedModel | None:
    """The model in a JSON description; None if a newer version, or another program, wrote it."""
    try:
        return PushedModel.model_validate(document)
    except ValidationError:
        return None


def read_kind(text: str) -> ModelKind:
    """The kind of that name.

    Raises:
        Refused: there is no such kind.
    """
    for kind in KINDS:
        if text == kind:
            return kind
    raise Refused("kind", text, f"give one of {', '.join(KINDS)}")


def find_pushed(wanted: str, kind: ModelKind, known: Iterable[PushedModel]) -> PushedModel | None:
    """The model of a kind that `wanted` means; of several with that name, the last one pushed."""
    found = [each for each in known if each.kind == kind and each.is_called(wanted)]
    return max(found, key=lambda each: each.pushed, default=None)
