"""The formats of manifests: comma-separated values, or a JSON object per line."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Protocol

from img2img_shared.errors import Refused, Summary
from img2img_shared.input_fields import PLACES
from img2img_shared.own_params import OF_THE_JOB, own_names
from img2img_shared.param_reference import schema_of
from img2img_shared.params import Params
from img2img_shared.roles import is_role
from img2img_shared.suggestions import unknown_name

#: bytes of a line: far more than the longest prompts
LONGEST = 1024 * 1024
_DELIMITERS = ",;\t"
_MARK = b"\xef\xbb\xbf"  # of UTF-8, as Excel and Notepad begin a file


class ManifestFormat(Protocol):
    """Finds the records of a file, and reads them."""

    def records(self, file: BinaryIO) -> Iterator[tuple[int, int]]:
        """The start of each record: the offset in bytes, and the number of its line, from 1.

        Raises:
            Refused: the end of one cannot be found.
        """

    def read(self, record: bytes) -> dict[str, Any]:
        """A record's values by their columns, without empty ones.

        Raises:
            Refused: names the column.
        """


class Lines:
    """The lines of a file as text that has as many characters as bytes, counted."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        #: where the next line begins, in bytes, and how many came before it
        self.offset = self.count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST + 1)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) > LONGEST:
            raise Refused(f"line {self.count}", Summary("longer"), f"give lines of at most {LONGEST:,} bytes")
        self.offset += len(line)
        return line.decode("latin-1")


class CsvFormat:
    """Columns by the names in the first line, separated by commas, semicolons or tabs."""

    def __init__(self, file: BinaryIO) -> None:
        first = next(Lines(file), "").encode("latin-1").removeprefix(_MARK)
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Refused("line 1", Summary("UTF-16"), "save the file as UTF-8")
        text = decoded(first)
        self._delimiter = max(_DELIMITERS, key=text.count)
        self._columns = [name.strip() for name in self._cells(text)]
        for number, name in enumerate(self._columns, 1):
            if name:
                check_column(name, f"column {number}")
        if twice := first_repeated(filter(None, self._columns)):
            raise Refused("column", twice, "it stands there twice; give each column a name of its own")

    def records(self, file: BinaryIO) -> Iterator[tuple[int, int]]:
        lines = Lines(file)
        next(lines, None)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            offset, number = lines.offset, lines.count + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reason = f"quote its cells ({error})"
                raise Refused(f"line {number}", Summary("not as CSV has it"), reason) from None
            if any(cell.strip() for cell in cells):
                yield offset, number

    def read(self, record: bytes) -> dict[str, Any]:
        cells = self._cells(decoded(record))
        names = self._columns + [""] * (len(cells) - len(self._columns))
        found = {name: cell for name, cell in zip(names, cells, strict=False) if cell.strip()}
        if "" in found:
            reason = "name its column in the first line, or quote a cell with a comma in it"
            raise Refused("a cell too many", found[""], reason)
        return {name: value_of(name, cell) for name, cell in found.items()}

    def _cells(self, text: str) -> list[str]:
        try:
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            raise Refused("line", text, f"quote its cells ({error})") from None


class JsonLinesFormat:
    """A JSON object per line: numbers, true and false, lists, and texts that may be empty."""

    def __init__(self, file: BinaryIO) -> None:
        """Skip nothing: the file has no header."""

    def records(self, file: BinaryIO) -> Iterator[tuple[int, int]]:
        lines = Lines(file)
        while True:
            offset = lines.offset
            line = next(lines, None)
            if line is None:
                return
            if line.strip():
                yield offset, lines.count

    def read(self, record: bytes) -> dict[str, Any]:
        text = decoded(record.removeprefix(_MARK))
        try:
            found = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise Refused("line", text.strip(), f"write one JSON object ({error})") from None
        if not isinstance(found, dict):
            raise Refused("line", found, 'write one JSON object, as in {"image": "a.png", "seed": 7}')
        for name in found:
            if name not in ("pictures", "params"):
                check_column(name, "column")
        return found


def value_of(name: str, cell: str) -> Any:
    """The value of a cell: a text, or JSON for a parameter that is a list.

    Raises:
        Refused: it is not a list.
    """
    if name not in Params.model_fields or schema_of(name).get("type") != "array":
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise Refused(name, cell, f"write a list as JSON ({error})") from None


FORMATS: dict[str, type[CsvFormat] | type[JsonLinesFormat]] = {
    ".csv": CsvFormat,
    ".tsv": CsvFormat,
    ".jsonl": JsonLinesFormat,
    ".ndjson": JsonLinesFormat,
}


def check_column(name: str, place: str) -> None:
    """Check that a column may have this name.

    Raises:
        Refused: names its place, and suggests the right name.
    """
    if name in OF_THE_JOB:
        raise Refused(place, name, f"give it once for all lines, as an option: {OF_THE_JOB[name]}")
    if not is_role(name) and name not in PLACES and name not in own_names():
        known = ["image", "mask", "control/0", *PLACES, *own_names()]
        raise Refused(place, name, unknown_name("picture or parameter", name, known))


def first_repeated(names: Iterable[str]) -> str | None:
    """The first repeated name, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def decoded(data: bytes) -> str:
    """The text of a file that should be UTF-8.

    Raises:
        Refused: it is not.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused("line", data[error.start : error.start + 20], "save the file as UTF-8") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{first_repeated(name for name, _ in pairs)!r} stands there twice")
    return found
