"""A file of weights that lies in the farm's store."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from img2img_shared.errors import Refused
from img2img_shared.refusals import refusal
from img2img_shared.upscaler_names import A1111_NAMES

ModelKind = Literal["checkpoint", "lora", "vae", "embedding", "hypernetwork", "control", "upscaler"]
KINDS: tuple[ModelKind, ...] = get_args(ModelKind)
#: what its file may end with
Ending = Literal[".safetensors", ".ckpt", ".pt", ".pth", ".bin"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
_NO_NAME = re.compile(r"""^\.|[/\\<>:|?*"\x00-\x1f\x7f-\x9f]|\s$""")


def _check_name(name: str) -> str:
    """That a file can have this name on any machine, and a prompt can say it."""
    if not name.isprintable() or _NO_NAME.search(name):
        raise Refused("name", name, "give a file's name, without / \\ < > : | ? * and quotes")
    return name


ModelName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_name)]
#: SHA-256 of files, by their kinds and what a job calls them: "lora/cat"
ModelFiles = Annotated[
    dict[Annotated[str, Field(pattern=rf"^({'|'.join(KINDS)})/[^\x00-\x1f\x7f-\x9f]{{1,1024}}$")], Sha256],
    Field(max_length=1000),
]

#: digits of a hash that A1111 shows, and that mean a file here
_SHORT = 10
_HASH = re.compile(r"[0-9a-f]{10,64}")


class NewModel(BaseModel):
    """What whoever pushes a file says of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ModelKind
    #: what jobs call it: its file's name without the ending, unless its user said another
    name: ModelName
    #: ".safetensors"
    ending: Ending
    sha256: Sha256
    #: bytes
    size: Annotated[int, Field(ge=1)]

    @classmethod
    def of(cls, **facts: Any) -> Self:
        """One of these facts.

        Raises:
            Refused: a name that no file could have.
        """
        try:
            return cls.model_validate(facts)
        except ValidationError as error:
            raise refusal(error) from None

    @property
    def file_name(self) -> str:
        """As it was, or with its other name."""
        return self.name + self.ending


class PushedModel(NewModel):
    """One file, and what is known of it: `models/<sha256>/about.json` in the store."""

    #: bytes of each of its objects but the last
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
        """As A1111 tells two of one name apart: "anime [6ce0161689]"."""
        return f"{self.name} [{self.short_hash}]"

    @property
    def n_parts(self) -> int:
        return -(-self.size // self.part)

    def size_of_part(self, number: int) -> int:
        """Bytes of one of its objects."""
        return min(self.part, self.size - number * self.part)

    def is_called(self, wanted: str) -> bool:
        """Whether `wanted` means this one: by name, file name, title or hash (ten digits or more)."""
        titles = {self.name, self.file_name, self.title, f"{self.file_name} [{self.short_hash}]", self.model}
        if self.kind == "upscaler":
            titles.add(A1111_NAMES.get(self.name, self.name))
        return wanted in titles or (bool(_HASH.fullmatch(wanted)) and self.sha256.startswith(wanted))


def read_pushed(document: Any) -> PushedModel | None:
    """What is told of a file in JSON's types; None: a newer version wrote it, or nobody of ours."""
    try:
        return PushedModel.model_validate(document)
    except ValidationError:
        return None


def read_kind(text: str) -> ModelKind:
    """The kind of that name.

    Raises:
        Refused: there is none.
    """
    for kind in KINDS:
        if text == kind:
            return kind
    raise Refused("kind", text, f"give one of {', '.join(KINDS)}")


def find_pushed(wanted: str, kind: ModelKind, known: Iterable[PushedModel]) -> PushedModel | None:
    """The one of a kind that `wanted` means: of several of one name, the one that was pushed last."""
    found = [each for each in known if each.kind == kind and each.is_called(wanted)]
    return max(found, key=lambda each: each.pushed, default=None)
