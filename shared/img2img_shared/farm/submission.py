"""A job on its way in: its pictures into the store, many at a time but never all in memory, then itself."""

import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import ValidationError

from img2img_shared.errors import Conflict, FarmError, Refused, Summary, Unavailable
from img2img_shared.farm.checked_input import checked_input
from img2img_shared.farm.input_janitor import remove_pages
from img2img_shared.farm.intake import Intake, Source
from img2img_shared.farm.patience import await_result, patiently
from img2img_shared.job import PAGE, Input, Job, inputs_key, shared_inputs_key
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.own_params import draw_own_seeds
from img2img_shared.params import Params
from img2img_shared.pushed_models.pins import Pins
from img2img_shared.refusals import refusal
from img2img_shared.roles import check_role
from img2img_shared.seeds import DRAW, draw_seed
from img2img_shared.store import Store
from img2img_shared.wire import LIMIT, encode_inputs, fingerprint

#: pictures on their way at a time: enough to hide a distant store's latency, few enough for its rate limits
UPLOADS = 16
#: characters of a parameter that are kept as they are for comparison with a repeat
_LONGEST = 64


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One input of a job that is being submitted."""

    #: by their roles
    pictures: Mapping[str, Source] = field(default_factory=dict)
    #: parameters of its own
    params: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    folder: str | None = None
    #: where its user has it
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """A job that lies in the ledger."""

    id: str
    #: its idempotency key had made it before
    repeated: bool


class Submission:
    """One job that is being submitted: `add` its inputs one after another, then `commit`, or `abandon` it."""

    def __init__(
        self,
        job: Job,
        *,
        request: Mapping[str, str],
        store: Store,
        ledger: Ledger,
        submissions: Submissions,
        intake: Intake,
        pool: Executor,
        committed: Callable[[str], None],
        stored: Callable[[int], None] | None = None,
        outage: float = 0.0,
        whole: tuple[str, int] | None = None,
        pins: Pins | None = None,
        still_there: Callable[[Mapping[str, str]], None] = lambda _: None,
        check_files: Callable[[Params], None] = lambda _: None,
    ) -> None:
        #: with its seeds drawn, and pictures that are in the store; `commit` tells others, and `n_inputs`
        self.job = job
        self._request = request
        self._store = store
        self._ledger = ledger
        self._submissions = submissions
        self._intake = intake
        self._pool = pool
        self._committed = committed
        self._stored = stored
        self._outage = outage
        self._whole = whole
        self._pins = pins
        self._still_there = still_there
        self._check_files = check_files
        self._digest = hashlib.sha256()
        self._pictures = dict(job.pictures)
        self._added = self._count = 0
        self._under_way: deque[Future[Input]] = deque()
        self._page: list[Input] = []
        #: whether the ledger was asked to write it: from then on it may be there, whatever the answer
        self._is_asked = False

    def set_picture(self, role: str, picture: Source) -> None:
        """Store the picture of all inputs that bring none of this role; before any of them is added.

        Raises:
            Refused: there is no such role, or the picture cannot be read.
            StoreError: the store does not take it.
        """
        self._pictures[check_role(role)] = self._intake.put(self.job.id, self.job.tenant, picture, role)

    def add(self, upload: Upload) -> None:
        """Begin to store one more input; waits where enough of them are under way.

        Raises:
            Refused: this input, or one of those before it.
            StoreError: the store does not take one of them.
        """
        if len(self._under_way) >= UPLOADS:
            self._take()
        item = self._check(upload)
        put = partial(
            self._intake.put_all, self.job.id, self.job.tenant, upload.pictures, f"inputs[{self._added}]."
        )
        self._under_way.append(self._pool.submit(lambda: item.model_copy(update={"pictures": put()})))
        self._added += 1

    def _check(self, upload: Upload) -> Input:
        """The next input without its pictures: what is wrong with it is said before anything is uploaded."""
        try:
            item = checked_input(
                self.job.params,
                roles={*self._pictures, *upload.pictures},
                own=upload.params,
                name=upload.name,
                folder=upload.folder,
                path=upload.path,
                check_files=self._check_files,
            )
        except Refused as error:
            raise error.under(f"inputs[{self._added}].") from None
        if self._pins is None or not item.params:
            return item
        return item.model_copy(update={"params": self._pins.of_own(self.job.params, item.params)})

    def commit(self, prepare: Callable[[Job], None] | None = None) -> Written:
        """Wait for the inputs, and write the job into the ledger.

        Args:
            prepare: told the job before it is written; what it raises, comes through.

        Raises:
            Refused: an input, or there is none.
            Conflict: the idempotency key has made a job from another request.
            StoreError: the store does not take an input; nothing was submitted.
            Unavailable: the ledger did not answer: whether it has written the job is not known. Submitted
                again with the same idempotency key it is one job.
        """
        while self._under_way:
            self._take()
        if not self._count:
            raise Refused("inputs", [], "give at least one picture")
        self._put_page()
        if self._pictures:  # the ledger may be lost, and the store is to know what it must not remove
            shared = encode_inputs((Input(pictures=self._pictures),))
            self._store.put(shared_inputs_key(self.job.id), shared)
        files = self.job.files if self._pins is None else self._pins.files
        patiently(lambda: self._still_there(files), self._outage)
        job = _checked_job(self.job, n_inputs=self._count, pictures=self._pictures, files=files)
        if prepare is not None:
            prepare(job)
        asked = {"inputs": self._digest.hexdigest(), "mask": "", **self._pictures}
        request = {**self._request, **asked}
        self._is_asked = True
        try:  # made twice, it takes effect once
            written = patiently(lambda: self._ledger.submit(job, request, whole=self._whole), self._outage)
        except Conflict:
            self._remove_pages()
            raise
        except Unavailable as error:
            told = f"whether job {job.id} was written is not known: submit it again with its idempotency key"
            told += ", or look for it once Redis answers"
            raise Unavailable(f"{error}; {told}", reason=f"{error.reason}; {told}") from error
        if written != job.id:  # the ledger has an earlier one, so that this one will never be in there
            self._remove_pages()
        self._committed(job.model)
        return Written(id=written, repeated=written != job.id)

    def abandon(self) -> None:
        """It is not going to be committed: forget what was written for it.

        Nothing is removed once the ledger was asked, if it did not answer either: the job may be there.
        """
        for upload in self._under_way:
            upload.cancel()
        if not self._is_asked:
            self._remove_pages()

    def _take(self) -> None:
        item = await_result(self._under_way.popleft())
        if self.job.idempotency_key is not None:
            self._digest.update(fingerprint(item))
        self._page.append(item.model_copy(update={"params": draw_own_seeds(self.job.params, item.params)}))
        self._count += 1
        if len(self._page) == PAGE:
            self._put_page()
        if self._stored is not None:
            self._stored(self._count)

    def _put_page(self) -> None:
        if self._page:
            number = (self._count - 1) // PAGE
            data = encode_inputs(tuple(self._page))
            if len(data) > LIMIT:
                reason = (
                    f"{PAGE} inputs may have {LIMIT:,}; shorten their texts, or give them once for the job"
                )
                raise Refused("inputs", Summary(f"{len(data):,} bytes"), reason)
            self._store.put(inputs_key(self.job.id, number), data)
            self._page.clear()

    def _remove_pages(self) -> None:
        with suppress(FarmError):  # else the janitor does it, some days later
            remove_pages(self._store, self.job.id)
            self._submissions.forget([self.job.id])


def new_job(**facts: Any) -> Job:
    """A job of one input, with an id of its own and these `facts`, its fields.

    Raises:
        Refused: names the field.
    """
    try:
        return Job(id=secrets.token_hex(8), n_inputs=1, **facts)
    except ValidationError as error:
        raise refusal(error) from None


def draw_seeds(params: Params) -> Params:
    """`params` with seed and subseed drawn where they are -1, once, so that the job can be told again."""
    drawn = {"seed": draw_seed(params.seed), "subseed": draw_seed(params.subseed)}
    if params.control and params.control_subseed == DRAW:
        drawn["control_subseed"] = params.subseed  # as it was given
    return params.model_copy(update=drawn)


def request_of(job: Mapping[str, Any], params: Params) -> dict[str, str]:
    """What a job is asked to be, by its parts, for comparison with a repeat: seeds that are not drawn yet."""
    asked = {**job, **params.model_dump(mode="json", exclude_defaults=True)}
    texts = {name: str(value) for name, value in asked.items()}
    return {
        name: text if len(text) <= _LONGEST else hashlib.sha256(text.encode()).hexdigest()
        for name, text in texts.items()
    }


def _checked_job(job: Job, **changes: Any) -> Job:
    try:
        return Job.model_validate({**dict(job), **changes})
    except ValidationError as error:
        raise refusal(error) from None
