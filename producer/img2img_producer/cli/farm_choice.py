"""Which farm a command is for."""

import shlex
from pathlib import Path

import typer

from img2img_producer.client import Farm
from img2img_shared.command_line import Connection, say
from img2img_shared.errors import Refused
from img2img_shared.settings import Settings


def farm_of(context: typer.Context) -> Farm:
    """The farm that the command line and the environment name, else the one in the data folder; says which.

    Raises:
        Refused: an ``IMG2IMG_…`` variable or a URL is not allowed.
        Unavailable: Redis does not answer.
    """
    farm = Farm(settings=settings_of(context))
    say(f"farm: {farm.where}")
    return farm


def settings_of(context: typer.Context) -> Settings:
    """What the command line says, over what the environment does.

    Raises:
        Refused: an ``IMG2IMG_…`` variable is not allowed.
    """
    said: Connection = context.obj
    return said.settings(Settings)


def come_back(context: typer.Context, command: str) -> str:
    """A command to be shown, for the same farm."""
    said: Connection = context.obj
    return " ".join(["img2img", *map(shlex.quote, said.words), command])


def model_of(text: str | None, *, elsewhere: bool = False) -> str | None:
    """A model as workers know it: a name stays, a folder or file becomes its full path.

    Args:
        elsewhere: workers run on other machines, which may have a checkpoint that this one has not.

    Raises:
        Refused: a path where there is nothing, or nothing that could be a checkpoint.
    """
    if text is None:
        return None
    path = Path(text).expanduser()
    if path.suffix in (".safetensors", ".ckpt") or "/" in text:
        if not path.exists():
            if elsewhere and path.is_absolute():
                return text
            raise Refused(
                "model",
                text,
                "no such file or folder; give a model's name, a checkpoint folder or a .safetensors file",
            )
        # a worker that finds out takes half a minute to start, and others of its name would fail too
        if path.is_dir() and not (path / "model_index.json").is_file():
            raise Refused(
                "model", text, "the folder has no model_index.json; give one in the diffusers layout"
            )
        if path.suffix == ".safetensors" and path.is_file() and not _is_safetensors(path):
            raise Refused("model", text, "this is no .safetensors file; give one")
        return str(path.absolute())
    # a folder of that name counts if it is a checkpoint: people have folders called "demo"
    return str(path.absolute()) if (path / "model_index.json").is_file() else text


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as the format has it: the length of its header, then a JSON object."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return True  # the worker may be allowed to read it
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and length <= path.stat().st_size - 8
