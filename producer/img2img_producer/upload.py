"""Brings a job's inputs into the store: each picture once, many at a time, never all in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pydantic import ValidationError

from img2img_producer.inputs import Source, as_picture, read_source
from img2img_shared.errors import Refused
from img2img_shared.job import PAGE, Input, inputs_key
from img2img_shared.params import refusal
from img2img_shared.store import Store
from img2img_shared.wire import encode_inputs

#: uploads at a time: enough to hide a distant store's latency, few enough for its rate limits
AT_ONCE = 16


def upload_inputs(
    store: Store, job_id: str, inputs: Iterable[object], progress: Callable[[int], None] | None = None
) -> int:
    """Store the pictures of `inputs` and the job's pages that name them; how many there are.

    `inputs` is read as it goes, so that it may be a generator over any number of files. `progress` is told
    how many are stored. What was written for a job that comes to nothing, `remove_pages` removes.

    Raises:
        Refused: an input that is none, cannot be read, or is too large; or there is no input at all.
        StoreError: the store does not take them.
    """
    page: list[Input] = []
    count = 0
    for item in _in_order(store, inputs):
        page.append(item)
        count += 1
        if len(page) == PAGE:
            store.put(inputs_key(job_id, (count - 1) // PAGE), encode_inputs(tuple(page)))
            page.clear()
        if progress is not None:
            progress(count)
    if page:
        store.put(inputs_key(job_id, (count - 1) // PAGE), encode_inputs(tuple(page)))
    if not count:
        raise Refused("inputs", [], "at least one picture")
    return count


def upload_source(store: Store, source: Source, field: str) -> str:
    """Store one picture; its key.

    Raises:
        Refused: it cannot be read.
        StoreError: the store does not take it.
    """
    return store.put_input(read_source(source, field))


def remove_pages(store: Store, job_id: str) -> None:
    """Forget the pages of a job that the ledger never took.

    Raises:
        StoreError: the store does not do it.
    """
    for key in list(store.list(f"jobs/{job_id}/inputs")):
        store.delete(key)


def _in_order(store: Store, inputs: Iterable[object]) -> Iterator[Input]:
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload")
    under_way: deque[Future[Input]] = deque()
    try:
        for index, item in enumerate(inputs):
            under_way.append(pool.submit(_stored, store, item, index))
            if len(under_way) >= 2 * AT_ONCE:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C must not wait for a store that hangs


def _stored(store: Store, item: object, index: int) -> Input:
    picture = as_picture(item, index)
    field = f"inputs[{index}]"
    try:
        # what is wrong with a prompt or a seed is said before anything is uploaded
        checked = Input(
            image="inputs/" + "0" * 64,
            prompt=picture.prompt,
            negative_prompt=picture.negative_prompt,
            seed=picture.seed,
            name=picture.label,
        )
    except ValidationError as error:
        raise refusal(error, f"{field}.") from None
    mask = picture.mask
    return checked.model_copy(
        update={
            "image": upload_source(store, picture.image, f"{field}.image"),
            "mask": None if mask is None else upload_source(store, mask, f"{field}.mask"),
        }
    )
