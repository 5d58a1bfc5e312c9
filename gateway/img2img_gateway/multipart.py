"""Reads a multipart body as it arrives: one part at a time, never the whole."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from img2img_gateway.gateway_errors import Problem
from img2img_gateway.sent_file import SentFile
from img2img_shared.errors import Refused, Summary

#: bytes of a part that is no file; of a part's headers the library takes few
_FIELD = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """A complete part."""

    name: str
    #: None: a field of the form, no file
    filename: str | None
    file: SentFile

    @property
    def text(self) -> str:
        """The text of a field.

        Raises:
            Refused: it is not UTF-8.
        """
        data = self.file.read()
        try:
            return data.decode()
        except UnicodeDecodeError:
            reason = "send text in UTF-8 here, and pictures under the name image, mask, ..."
            raise Refused(self.name, data, reason) from None


async def read_parts(request: Request, largest: int, new_file: Callable[[], SentFile]) -> AsyncIterator[Part]:
    """The parts of a multipart/form-data body, each as soon as it is complete.

    Args:
        largest: most bytes of a file.
        new_file: makes a file for a part.

    Raises:
        Refused: a part is too large, or the body is malformed.
        Problem: 415, the body has another type; 503, there is no room for it now.
        ClientDisconnect: the body ended too early.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Problem(415, "send a multipart/form-data body")
    with _readable():
        reader = _Reader(options[b"boundary"], largest, new_file)
    async for chunk in request.stream():
        for part in reader.feed(chunk):
            yield part
    reader.close()


@contextmanager
def _readable() -> Iterator[None]:
    """A context in which errors of the parser become `Refused`."""
    try:
        yield
    except FormParserError as error:
        raise Refused(
            "body", Summary("a form that cannot be read"), f"send valid multipart/form-data ({error})"
        ) from None


@dataclass(kw_only=True)
class _Open:
    """A part that is being received."""

    header: bytearray = field(default_factory=bytearray)
    headers: dict[str, bytes] = field(default_factory=dict)
    value: bytearray = field(default_factory=bytearray)
    file: SentFile
    name: str = ""
    filename: str | None = None


class _Reader:
    """Collects python-multipart's callbacks into parts."""

    def __init__(self, boundary: bytes, largest: int, new_file: Callable[[], SentFile]) -> None:
        self._largest = largest
        self._new_file = new_file
        self._open = _Open(file=new_file())
        self._done: list[Part] = []
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._open.header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._open.value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, chunk: bytes) -> list[Part]:
        with _readable():
            self._parser.write(chunk)
        found, self._done = self._done, []
        return found

    def close(self) -> None:
        if not self._ended:
            raise Refused(
                "body",
                Summary("a multipart form that is cut off"),
                "send the whole body; it ended before its last boundary",
            )

    def _begin(self) -> None:
        self._open = _Open(file=self._new_file())

    def _end_header(self) -> None:
        part = self._open
        part.headers[part.header.decode("latin-1").lower()] = bytes(part.value)
        part.header, part.value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        part = self._open
        _, options = parse_options_header(part.headers.get("content-disposition"))
        if b"name" not in options:
            raise Refused("body", Summary("a form with a part that has no name"), "give each part a name")
        part.name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            part.filename = options[b"filename"].decode("utf-8", "replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        part = self._open
        largest = _FIELD if part.filename is None else self._largest
        if part.file.size + end - start > largest:
            what = "this field" if part.filename is None else part.filename
            raise Refused(part.name, what, f"send at most {largest:,} bytes")
        part.file.write(data[start:end])

    def _end(self) -> None:
        part = self._open
        self._done.append(Part(name=part.name, filename=part.filename, file=part.file))
        self._open = _Open(file=self._new_file())

    def _finish(self) -> None:
        self._ended = True
