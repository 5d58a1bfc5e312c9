"""The base of scripts that take over a request: arguments, and the renders that a script makes of it."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import MOST_IMAGES, Img2ImgRequest, RenderRequest
from img2img_shared.errors import Refused, Summary
from img2img_shared.refusals import refusal
from img2img_shared.sheets.grid import GridOptions

#: takes the account, and width and height of the largest picture
AccountChanges = Callable[[Mapping[str, Any], tuple[int, int]], Mapping[str, Any]]


class Sheets:
    """Sheets that a script makes of its pictures, and that go before them."""

    def is_wanted(self, _: GridOptions) -> bool:
        """Whether there are to be any sheets."""
        return True

    @abstractmethod
    def size(self, cell: tuple[int, int], options: GridOptions) -> tuple[int, int]:
        """Width and height of the largest sheet in pixels, if the largest picture fits `cell`."""

    @abstractmethod
    def drawn(
        self, pictures: Iterable[bytes], cell: tuple[int, int], options: GridOptions
    ) -> list[Image.Image]:
        """The sheets."""

    def texts(self, texts: Sequence[str]) -> list[str]:
        """The sheets' infotexts, made from those of the pictures."""
        return list(texts[:1])


@dataclass(frozen=True, kw_only=True)
class Run:
    """The renders that a script makes of a request."""

    #: rendered one after the other, each by itself
    requests: Sequence[RenderRequest]
    #: parameters that no field of a request has
    params: Mapping[str, Any] = field(default_factory=dict)
    sheets: Sheets | None = None
    #: whether the pictures follow their sheets
    sends_pictures: bool = True
    #: whether what a loop has made on the way is among the pictures
    shows_loops: bool = True
    #: from the pictures' infotexts to those that A1111 tells
    texts: Callable[[list[str]], list[str]] = list
    #: from A1111's account of the renders to what the script's says otherwise
    account_changes: AccountChanges = lambda *_: {}

    @property
    def count(self) -> int:
        """The number of pictures."""
        return sum(each.n_iter * each.batch_size for each in self.requests)


class Script(BaseModel):
    """A script. Its fields are its arguments in A1111's order; their titles are A1111's labels."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    #: as A1111 lists it
    title: ClassVar[str]
    of_txt2img: ClassVar[bool] = True

    @abstractmethod
    def run(self, request: RenderRequest, lenient: Leniency) -> Run:
        """The renders for `request`.

        Raises:
            Refused: names an argument, or a field.
        """

    @classmethod
    def read(cls, arguments: Sequence[Any], lenient: Leniency) -> "Script":
        """The script with arguments by position; those left out, or null, have their defaults.

        Raises:
            Refused: names one.
        """
        names = list(cls.model_fields)
        for value in arguments[len(names) :]:
            lenient.set_aside("script_args", value, f"{cls.title} takes {len(names)} arguments, as in A1111")
        given = {name: value for name, value in zip(names, arguments, strict=False) if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise refusal(error, "script_args.") from None

    @classmethod
    def info(cls, *, img2img: bool) -> dict[str, Any]:
        """The script as A1111 lists it."""
        arguments = [
            {
                "label": schema["title"],
                "value": schema["default"],
                "minimum": schema.get("minimum"),
                "maximum": schema.get("maximum"),
                "step": schema.get("step"),
                "choices": schema.get("enum"),
            }
            for schema in cls.model_json_schema()["properties"].values()
        ]
        return {"name": cls.title, "is_alwayson": False, "is_img2img": img2img, "args": arguments}


def changed(request: RenderRequest, changes: Mapping[str, Any]) -> RenderRequest:
    """`request` with changed values, and without its script.

    Raises:
        Refused: names the field.
    """
    given = {name: getattr(request, name) for name in request.model_fields_set}
    bare: dict[str, Any] = {"script_name": None, "script_args": [], "infotext": None}
    try:
        return type(request).model_validate({**given, **bare, **changes})
    except ValidationError as error:
        raise refusal(error) from None


def first_picture(request: RenderRequest, lenient: Leniency, title: str) -> dict[str, Any]:
    """The change to a request that keeps only its first picture, which is all a script uses."""
    images = request.init_images or [] if isinstance(request, Img2ImgRequest) else []
    if len(images) > 1:
        why = f"{title} looks at the first alone, as in A1111"
        lenient.set_aside("init_images", Summary(f"{len(images)} pictures"), why)
    return {"init_images": images[:1]}


def of_the_first(texts: list[str]) -> list[str]:
    """The infotexts that A1111 returns for some scripts: the first one's, for all."""
    return texts[:1] * len(texts)


def check_count(count: int, field_name: str) -> None:
    """Check that a script makes no more pictures than a call may have.

    Raises:
        Refused: names the field that asks for them.
    """
    if count > MOST_IMAGES:
        raise Refused(
            field_name,
            Summary(f"{count:,} pictures"),
            f"ask for at most {MOST_IMAGES:,} in one call; for more, submit a job (POST /v1/jobs)",
        )
