"""A manifest: a file that lists inputs, one per line, with their pictures and parameters."""

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

from img2img_producer.inputs import Picture
from img2img_producer.manifest_formats import FORMATS, ManifestFormat
from img2img_shared.errors import Refused, one_line
from img2img_shared.input_fields import sort_fields

#: lines, as many as a job may have inputs
MOST = 10_000_000


class Manifest(Sequence[Picture]):
    """The inputs that a CSV or JSON Lines file lists, each read when it is needed.

    >>> farm.submit(Manifest("frames.csv"), prompt="a harbour at night")  # doctest: +SKIP

    Columns are pictures by their roles (``image``, ``mask``, ``control/0``, ...), ``name``, ``folder``, and
    any parameter that an input may have. Paths are relative to the file's folder. Only 16 bytes per line are
    kept in memory. The file must not change meanwhile.

    Raises:
        Refused: it cannot be read, has an unknown column, or has no lines. Errors in a line are raised when
            that line is read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._offsets, self._numbers = array("Q"), array("Q")
        with _open(self.path) as file:
            try:
                self._format = self._read_format(file)
                for offset, number in self._format.records(file):
                    self._offsets.append(offset)
                    self._numbers.append(number)
                    if len(self._numbers) > MOST:
                        raise Refused("number of lines", len(self._numbers), f"give at most {MOST:,}")
                if not self._numbers:
                    raise Refused("number of lines", 0, "give a line for each input")
            except Refused as error:
                raise error.under(f"{one_line(self.path.name)}: ") from None
            self._offsets.append(file.seek(0, 2))

    def place(self, index: int) -> str:
        """Where an input is listed, for messages."""
        return f"{one_line(self.path.name)} line {self._numbers[index]}"

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            with _open(self.path) as file:
                file.seek(self._offsets[index])
                record = file.read(self._offsets[index + 1] - self._offsets[index])
            return self._picture(self._format.read(record))
        except Refused as error:
            raise error.under(f"{self.place(index)}: ") from None

    def _read_format(self, file: BinaryIO) -> ManifestFormat:
        kind = FORMATS.get(self.path.suffix.lower())
        if kind is None:
            raise Refused("manifest", self.path.name, f"give a file whose name ends in {', '.join(FORMATS)}")
        return kind(file)

    def _picture(self, values: Mapping[str, Any]) -> Picture:
        fields = sort_fields(values)
        found = {role: self._file_of(role, value) for role, value in fields.pictures.items()}
        for name in ("name", "folder"):
            if not isinstance(value := getattr(fields, name), str | None):
                raise Refused(name, value, "give a text")
        return Picture(pictures=found, params=fields.params, name=fields.name, folder=fields.folder)

    def _file_of(self, role: str, value: Any) -> Path:
        if not isinstance(value, str) or "\0" in value:
            raise Refused(role, value, "give the path of a file")
        path = self.path.parent / Path(value).expanduser()
        if not path.is_file():
            raise Refused(role, value, f"no such file; paths are relative to {self.path.parent}")
        return path


def _open(path: Path) -> BinaryIO:
    if not path.is_file():
        raise Refused("manifest", str(path), "no such file; give a CSV or JSON Lines file")
    try:
        return path.open("rb")
    except OSError as error:
        raise Refused("manifest", str(path), f"cannot be read ({error.strerror})") from None
