"""Takes each input's own parameters from a text: its infotext, or a prompt in a file beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from img2img_producer.from_infotext import infotext_params
from img2img_producer.inputs import Picture, read_source
from img2img_shared.errors import Refused, one_line
from img2img_shared.params import Params

#: bytes of a file with a prompt, which has 20,000 characters at most
_LARGEST = 100_000
#: inputs without a text that are named
_NAMED = 3


class OwnTexts:
    """Adds the parameters in a picture's texts to it; those it has already stay.

    Args:
        params: the job's.
        prompt_files: take the prompt from ``NAME.txt`` beside ``NAME.png``, where trainers look for captions.
        infotext: parameters to take from infotexts.
        infotext_folder: folder of files with the inputs' names that have the infotexts; None: the inputs.
    """

    def __init__(
        self,
        params: Params,
        *,
        prompt_files: bool = False,
        infotext: Sequence[str] = (),
        infotext_folder: Path | None = None,
    ) -> None:
        self._params = params
        self._prompt_files = prompt_files
        self._infotext = infotext
        self._folder = infotext_folder
        #: the inputs without a text, by what they are without
        self._without: dict[str, list[str]] = {}

    def __call__(self, picture: Picture) -> Picture:
        """`picture` with its texts' parameters.

        Raises:
            Refused: a text cannot be read, or is missing and nothing replaces it.
        """
        if not isinstance(picture.image, str | Path):
            return picture
        own: dict[str, Any] = {}
        image = Path(picture.image)
        if self._infotext:
            own |= self._of_infotext(image)
        if self._prompt_files and "prompt" not in picture.params:
            own |= self._of_file(image)
        if not own:
            return picture
        params = {**own, **picture.params}
        return Picture(pictures=picture.pictures, params=params, name=picture.name, folder=picture.folder)

    def notes(self) -> Iterator[str]:
        """Notes on inputs without a text, from the calls so far."""
        for text, names in self._without.items():
            shown = ", ".join(map(one_line, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
            yield f"without {text}, so rendered as the options say: {len(names)} of the inputs ({shown})"

    def _of_infotext(self, image: Path) -> dict[str, Any]:
        source = image if self._folder is None else self._folder / image.name
        found = None
        if self._folder is None or source.exists():
            found = infotext_params(read_source(source, "infotext"), self._infotext, self._params)
        if found is None:
            self._without.setdefault("an infotext", []).append(str(image))
        return found or {}

    def _of_file(self, image: Path) -> dict[str, Any]:
        path = image.with_suffix(".txt")
        if path.is_file():
            return {"prompt": _read_prompt(path)}
        if not self._params.prompt:
            raise Refused("prompt", str(path), "put the file there, or give --prompt for inputs without one")
        self._without.setdefault("a file with a prompt", []).append(str(image))
        return {}


def _read_prompt(path: Path) -> str:
    """The text of a file, without surrounding spaces and lines.

    Raises:
        Refused: it cannot be read, or is not text in UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise Refused("prompt", str(path), f"cannot be read ({error.strerror})") from None
    if len(data) > _LARGEST:
        raise Refused("prompt", str(path), f"give a file of at most {_LARGEST:,} bytes")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Refused("prompt", str(path), "save the file as UTF-8") from None
