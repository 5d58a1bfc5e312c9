"""What the farm's commands have in common: options for the farm, output, and exit codes."""

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from img2img_shared.errors import FarmError, NotFound, Refused
from img2img_shared.refusals import refusal
from img2img_shared.settings import Settings

#: exit status after Ctrl-C
INTERRUPTED = 130

FarmUrl = Annotated[
    str | None,
    typer.Option(help="Its gateway, https://…, instead of Redis and store [IMG2IMG_FARM_URL, IMG2IMG_KEY]."),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(help="Its Redis: redis://, rediss://, unix:// or sentinel:// [IMG2IMG_REDIS_URL]."),
]
StoreUrl = Annotated[
    str | None, typer.Option(help="Its store: a folder, s3://, gs:// or az:// [IMG2IMG_STORE_URL].")
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the farm on this machine alone [IMG2IMG_DATA_DIR].")
]
Tenant = Annotated[str | None, typer.Option(help="Whose jobs [IMG2IMG_TENANT].")]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on standard output.")]

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The options given before the command, which override the environment."""

    redis_url: str | None
    store_url: str | None
    data_dir: Path | None
    tenant: str | None
    #: for clients, instead of Redis and store
    farm_url: str | None = None

    @property
    def words(self) -> list[str]:
        """The same options as command-line words, without secrets."""
        given = {"--" + name.replace("_", "-"): str(value) for name, value in asdict(self).items() if value}
        if self.redis_url and ("@" in self.redis_url or "password" in self.redis_url):
            given["--redis-url"] = "…"
        return [word for pair in given.items() for word in pair]

    @property
    def environment(self) -> dict[str, str]:
        """The same options as environment variables: command lines are public, URLs may hold passwords."""
        return {f"IMG2IMG_{name.upper()}": str(value) for name, value in asdict(self).items() if value}

    def settings(self, kind: type[S], **more: object) -> S:
        """The settings of the environment, overridden by the command line and by `more` where that is not
        None.

        Raises:
            Refused: an ``IMG2IMG_…`` variable is not allowed.
        """
        given = {name: value for name, value in {**asdict(self), **more}.items() if value is not None}
        if (self.redis_url or self.data_dir) and not self.farm_url:
            given["farm_url"] = None  # what is said here goes before the environment's
        try:
            return kind.model_validate(given)
        except ValidationError as error:
            raise refusal(error, "IMG2IMG_") from None


def messages() -> Console:
    """The console for people: progress, hints, errors. Text from users is shown as it is, `:heart:` too."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_table(table: Table, *, width: int | None = None) -> None:
    """Print a table to standard output, with its texts as they are.

    Args:
        width: in characters; None: the terminal's.
    """
    Console(highlight=False, markup=False, emoji=False, width=width).print(table)


def say(text: str) -> None:
    """Print one message to standard error, as it is."""
    messages().print(text, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one value for a program, as a line of standard output."""
    typer.echo(json.dumps(value, default=str))  # in ASCII: file names need not fit the terminal's encoding


def _leave_unprinted() -> None:
    """Discard what could not be printed: Python would try again at exit, and complain."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def run(app: typer.Typer) -> None:
    """Run the program; whatever the farm refuses is printed as one line."""
    try:
        app(prog_name="img2img")
    except FarmError as error:
        say("\n".join([f"img2img: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(2 if isinstance(error, Refused | NotFound) else 1)
    except OSError as error:  # of the disk that what it prints goes to, or of a file that nobody looks after
        about = f"{error.filename}: " if error.filename else ""
        say(f"img2img: {about}{error.strerror or error}")
        _leave_unprinted()
        sys.exit(1)
    except KeyboardInterrupt:  # while the options were being made, before there was a command to hear it
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # all is let go of by now, but for threads that a hanging store keeps: nobody waits for these
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise
