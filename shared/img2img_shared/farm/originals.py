"""What a job's results need to know of its inputs: their names, and files that must not be overwritten."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from img2img_shared.errors import StoreError, WireError
from img2img_shared.farm.output_names import OutputNames
from img2img_shared.job import PAGE, Input, Job, inputs_key, picture_digest, result_key
from img2img_shared.records import ImageStatus
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs


@dataclass(frozen=True, kw_only=True)
class Originals:
    """What a job's results need to know of its inputs."""

    #: file names of the outputs, in order
    names: OutputNames
    #: of each input, where its user had it, as far as that is known
    paths: list[str | None]
    #: SHA-256 of the inputs, which a result never overwrites
    digests: frozenset[str]


def read_originals(store: Store, job: Job) -> Originals:
    """The output names, paths and input digests of a job, from its pages.

    Raises:
        StoreError, WireError: a page cannot be read.
    """
    labels: list[str | None] = []
    folders: list[str | None] = []
    paths: list[str | None] = []
    digests: set[str] = set()
    for page in range(-(-job.n_inputs // PAGE)):
        for item in _page(store, job, page):
            labels.append(item.name)
            folders.append(item.folder)
            paths.append(item.path)
            digests.update(map(picture_digest, item.pictures.values()))
    digests.update(map(picture_digest, job.pictures.values()))
    extension = Path(result_key(job.id, 0, job.params.output_format)).suffix
    names = OutputNames(labels, job.params.images_per_input, extension, folders, paths)
    return Originals(names=names, paths=paths, digests=frozenset(digests))


def read_inputs(store: Store, job: Job, wanted: range) -> Iterator[Input]:
    """The inputs of a job at these indexes, in ascending order.

    Raises:
        StoreError, WireError: a page cannot be read.
    """
    for number in range(wanted.start // PAGE, -(-wanted.stop // PAGE)):
        first = number * PAGE
        yield from _page(store, job, number)[max(wanted.start - first, 0) : max(wanted.stop - first, 0)]


def with_names(store: Store, job: Job, images: Iterable[ImageStatus]) -> Iterator[ImageStatus]:
    """`images`, ascending by index, with their inputs' names and paths, except where a page is gone."""
    page: tuple[Input, ...] = ()
    number: int | None = None
    for image in images:
        at, _ = job.output(image.index)
        if at // PAGE != number:
            number = at // PAGE
            try:
                page = _page(store, job, number)
            except (StoreError, WireError):
                page = ()
        item = page[at % PAGE] if at % PAGE < len(page) else Input()
        yield replace(image, input=at, name=item.name, path=item.path)


def _page(store: Store, job: Job, number: int) -> tuple[Input, ...]:
    return decode_inputs(store.get(inputs_key(job.id, number)))
