"""What is said of wrong options: on which side of the command one belongs, and what to give."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

#: what typer says of a value, and what is said in its place
_WORDS = {
    "Input should be a valid integer, unable to parse string as an integer": "give a whole number",
    "Input should be a valid number, unable to parse string as a number": "give a number",
}


class Commands(TyperGroup):
    """A program with options of its own, before the command, and commands with theirs behind it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = [*args]  # which are taken from there one by one
        with _placing(lambda option: self._behind(ctx, option, given)):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _placing(lambda option: self._before(ctx, option)):
            return super().invoke(ctx)

    def _behind(self, ctx: Any, option: str, given: list[str]) -> str | None:
        """How it is given, if it is an option of the command that was."""
        command = next((word for word in given if word in self.commands), None)
        if command is None or option not in _options(self.commands[command]):
            return None
        return f"give it after the command: {ctx.command_path} {command} {option} …"

    def _before(self, ctx: Any, option: str) -> str | None:
        """How it is given, if it is one of the program's own."""
        if option not in _options(self):
            return None
        return f"give it before the command: {ctx.command_path} {option} … {ctx.invoked_subcommand} …"


def _options(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


@contextmanager
def _placing(place: Callable[[str], str | None]) -> Iterator[None]:
    try:
        yield
    except typer.TyperException as error:
        # what is said of an option that is unknown has these, and its class is none of typer's public ones
        if hasattr(error, "possibilities") and (told := place(getattr(error, "option_name", ""))):
            error.message, error.possibilities = f"{error.message}; {told}", None
        error.message = _WORDS.get(error.message, error.message)
        raise
