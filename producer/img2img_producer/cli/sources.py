"""Where a command line says its inputs come from, and what is each one's own."""

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from img2img_producer.control_words import ControlWord
from img2img_producer.from_infotext import LABELS, infotext_names
from img2img_producer.inputs import Picture, find_pictures
from img2img_producer.manifest import Manifest
from img2img_producer.own_texts import OwnTexts
from img2img_producer.picture_folders import pair, pictures_below
from img2img_producer.skipped import describe, skipped_files
from img2img_producer.varied import Axis, Varied
from img2img_shared.command_line import say
from img2img_shared.errors import Refused
from img2img_shared.params import Params

_PANEL = "Inputs"


def _option(word: str, metavar: str | None, text: str) -> Any:
    return typer.Option(word, metavar=metavar, help=text, rich_help_panel=_PANEL, show_default=False)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What was said of the inputs; each field is an option."""

    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUTS...", help="Pictures: files, folders or globs.")
    ] = None
    manifest: Annotated[
        Path | None,
        _option(
            "--manifest",
            "FILE",
            "CSV or JSON Lines file that lists the inputs, a line each, in place of INPUTS. Columns: image, "
            "mask, control/0, ..., name, folder, and any parameter. Paths are relative to the file's folder.",
        ),
    ] = None
    recursive: Annotated[
        bool,
        _option(
            "--recursive",
            None,
            "Take folders of INPUTS with the folders in them; outputs get the same folders.",
        ),
    ] = False
    mask: Annotated[
        Path | None, _option("--mask", "FILE", "One mask for all inputs; white is repainted.")
    ] = None
    mask_dir: Annotated[
        Path | None, _option("--mask-dir", "FOLDER", "Folder with a mask of the same stem for each input.")
    ] = None
    control: Annotated[
        list[str] | None,
        _option(
            "--control",
            "NETWORK[:MODULE[:WEIGHT]][=DIR]",
            "Hold the results to control pictures (ControlNet): those of the same stem in DIR, one FILE for "
            "all, or the inputs themselves; MODULE makes them. May be given again.",
        ),
    ] = None
    prompt_files: Annotated[
        bool,
        _option(
            "--prompt-files",
            None,
            "Take each input's prompt from NAME.txt beside it, where trainers look for captions.",
        ),
    ] = False
    from_infotext: Annotated[
        str | None,
        _option(
            "--from-infotext",
            "NAMES",
            "Parameters that each input brings in its own infotext, as in A1111's batch tab, with commas "
            f"between them: {', '.join(LABELS)}. Prompts are put behind --prompt and --negative-prompt.",
        ),
    ] = None
    infotext_dir: Annotated[
        Path | None,
        _option("--infotext-dir", "FOLDER", "Take infotexts from files of the same names in there."),
    ] = None

    vary: Annotated[
        list[str] | None,
        _option(
            "--vary",
            "NAME=V,V,...",
            "Render each input once with each of these values of a parameter; given several times, with each "
            "choice of all (A1111's X/Y/Z plot). Quote a value with a comma in it.",
        ),
    ] = None
    prompt_matrix: Annotated[
        bool,
        _option(
            "--prompt-matrix",
            None,
            "Render each input with every choice of the parts of --prompt between bars: 'a cat|at night|in "
            "snow' makes four (A1111's Prompt matrix).",
        ),
    ] = False
    prompts_file: Annotated[
        Path | None,
        _option(
            "--prompts-file",
            "FILE",
            "Render each input once with the prompt in each line (A1111's Prompts from file).",
        ),
    ] = None

    @property
    def are_given(self) -> bool:
        """Whether anything was said."""
        return any(getattr(self, field.name) for field in fields(self))

    def pictures(self, out: Path | None, *, first_unit: int = 0) -> Sequence[Picture]:
        """The inputs, in order, with the pictures that are found by their names.

        Args:
            out: where outputs go, which are no inputs.
            first_unit: the number of the first control unit of `control`.

        Raises:
            Refused: an option says what another one contradicts, or something is not there.
        """
        self._check_options()
        if self.manifest is not None:
            return Manifest(self.manifest)
        pictures = self._found(out)
        if self.mask_dir is not None:
            pair(pictures, "mask", self.mask_dir, "mask_dir", "mask")
        for number, folder in self._control_sources(first_unit).items():
            if not folder.is_file():
                pair(pictures, f"control/{number}", folder, "control", "control picture")
        return pictures

    def varied(self, pictures: Sequence[Picture], params: Params) -> Sequence[Picture]:
        """The inputs, each as often as there are choices of what varies.

        Raises:
            Refused: values are none, or no parameter's; there are too many choices.
        """
        axes = [Axis.read(word) for word in self.vary or ()]
        if self.prompt_matrix:
            axes.append(Axis.of_matrix(params.prompt))
        if self.prompts_file is not None:
            axes.append(Axis.of_lines(self.prompts_file))
        return Varied(pictures, axes, params) if axes else pictures

    def for_all(self, *, first_unit: int = 0) -> dict[str, Path]:
        """Pictures by their roles, for all inputs that bring none."""
        controls = self._control_sources(first_unit)
        found = {f"control/{number}": path for number, path in controls.items() if path.is_file()}
        return found if self.mask is None else {"mask": self.mask, **found}

    def control_units(self) -> list[dict[str, Any]]:
        """What --control says of units, but for their pictures."""
        return [ControlWord.read(word).unit for word in self.control or ()]

    def _control_sources(self, first_unit: int) -> dict[int, Path]:
        """Files and folders of --control, by the number of the unit."""
        words = enumerate(map(ControlWord.read, self.control or ()), first_unit)
        return {number: word.source for number, word in words if word.source is not None}

    def _found(self, out: Path | None) -> list[Picture]:
        if self.recursive:
            found = [picture for name in self.inputs or () for picture in _below(name, out)]
            self._say_what_is_skipped([Path(str(picture.image)) for picture in found])
            if not found:
                raise Refused("inputs", self.inputs, "give a folder with pictures in it, or in folders in it")
            return found
        try:
            paths = find_pictures(self.inputs or [])
        except Refused:  # a folder without any has perhaps some that are not read
            self._say_what_is_skipped([])
            raise
        self._say_what_is_skipped(paths)
        return [Picture(image=path) for path in paths]

    def _say_what_is_skipped(self, taken: Collection[Path]) -> None:
        if skipped := skipped_files(self.inputs or [], taken):
            say(describe(skipped))

    def _check_options(self) -> None:
        if self.manifest is not None:
            self._check_beside_manifest()
        if self.mask is not None and self.mask_dir is not None:
            raise Refused("mask", str(self.mask), "give --mask or --mask-dir, not both")
        if self.mask is not None and not self.mask.is_file():
            raise Refused("mask", str(self.mask), "no such file; give a picture")
        if self.infotext_dir is not None and self.from_infotext is None:
            raise Refused("infotext_dir", str(self.infotext_dir), "give --from-infotext with it")
        if self.infotext_dir is not None and not self.infotext_dir.is_dir():
            raise Refused("infotext_dir", str(self.infotext_dir), "no such folder; give one with pictures")
        if self.recursive and not any(Path(name).expanduser().is_dir() for name in self.inputs or ()):
            raise Refused("recursive", True, "give a folder with it")

    def _check_beside_manifest(self) -> None:
        for name in ("inputs", "recursive", "mask_dir"):
            if value := getattr(self, name):
                raise Refused(
                    name,
                    value if name == "inputs" else str(value),
                    "leave it out: the lines of --manifest name all pictures",
                )
        for number, source in self._control_sources(0).items():
            if not source.is_file():
                reason = f"give a file; each line has its own in control/{number}"
                raise Refused("control", str(source), reason)

    def own_texts(self, params: Params) -> OwnTexts:
        """What each input brings in a text beside it, or in its file.

        Raises:
            Refused: --from-infotext names what no infotext tells, or what is looked for in text files, too.
        """
        names = () if self.from_infotext is None else infotext_names(self.from_infotext)
        if self.prompt_files and "prompt" in names:
            raise Refused("prompt_files", True, "give --prompt-files, or prompt in --from-infotext, not both")
        return OwnTexts(
            params, prompt_files=self.prompt_files, infotext=names, infotext_folder=self.infotext_dir
        )


def with_sources(command: Callable[..., None], names: Collection[str] | None = None) -> Callable[..., None]:
    """`command`, whose argument `sources` is what was given of INPUTS, --manifest, --mask and their like.

    Args:
        names: of the fields that are options; None: all.
    """
    mine = inspect.signature(command, eval_str=True).parameters.values()
    hints = get_type_hints(Sources, include_extras=True)
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Sources)
        if names is None or field.name in names
    ]

    def run(**values: Any) -> None:
        command(sources=Sources(**{each.name: values.pop(each.name) for each in options}), **values)

    kept = [each for each in mine if each.name != "sources"]
    signature = inspect.Signature([kept[0], *options, *kept[1:]])
    run.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads; a function may have one
    run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _below(name: str, out: Path | None) -> Iterator[Picture]:
    folder = Path(name).expanduser()
    if folder.is_dir():
        yield from pictures_below(folder, out)
    else:
        yield from (Picture(image=path) for path in find_pictures([name]))
