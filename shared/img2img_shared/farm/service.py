"""The farm as a service: submitting, looking up and changing jobs, and controlling workers."""

from collections.abc import Callable, Collection
from functools import partial

from img2img_shared.durations import read_duration
from img2img_shared.farm.file_check import FileCheck
from img2img_shared.farm.job_control import JobControl
from img2img_shared.farm.job_lookup import JobLookup
from img2img_shared.farm.model_names import Catalog
from img2img_shared.farm.model_shelf import ModelShelf
from img2img_shared.farm.patience import await_result, patiently
from img2img_shared.farm.submission import Submission, draw_seeds, new_job, request_of
from img2img_shared.params import Params
from img2img_shared.prompt_tags import check_tags
from img2img_shared.pushed_models.pins import Pins


class FarmService(Catalog, JobLookup, JobControl, ModelShelf):
    """The farm that `settings` name, or, if they name no Redis, one in a folder of this machine.

    Its methods block, and may be called from any thread.

    Args:
        outage: seconds for which a submit retries while Redis does not answer.

    Raises:
        Refused: something that is not a URL, or a Redis without a store.
        Unavailable: Redis does not answer, or cannot be started.
    """

    def begin(
        self,
        *,
        tenant: str,
        model: str | None,
        params: Params,
        name: str | None = None,
        owner: str | None = None,
        tags: Collection[str] = (),
        keep: str | float | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
        webhook: str | None = None,
        stored: Callable[[int], None] | None = None,
        sets_tags_aside: bool = False,
        draws_seeds: bool = True,
    ) -> Submission:
        """Begin a job, to be given its inputs and then committed; its own fields are checked now.

        An embedded farm starts loading the model meanwhile.

        Args:
            model: None: see `default_model`; with extras, one whose workers have the upscalers.
            name, owner, tags: for people to find it by.
            keep: how long its results and inputs stay after its end: "30d", "forever", or seconds; None: as
                the settings say.
            webhook: the part of its webhook that a repeat with the same key must agree with.
            stored: called with the number of inputs that are in the store.
            sets_tags_aside: accept unknown tags in prompts; the caller reports them itself.
            draws_seeds: draw seeds that are -1. A caller that drew its own may have counted up to -1.

        Raises:
            Refused: names the field.
            StoreError: the store is not this farm's, or does not answer.
            Unavailable: Redis is away, or an embedded farm cannot run a worker.
        """
        if not sets_tags_aside and not params.disable_extra_networks:
            check_tags(
                comments=params.enable_prompt_comments, prompt=params.prompt, hr_prompt=params.hr_prompt
            )
        asked = {"model": model or "", "priority": priority, "webhook": webhook or ""}
        meant = partial(self._model_meant, tenant, model, idempotency_key, params)
        # it may list the store, which may hang, and in another thread Ctrl-C does not wait for that
        model, is_repeat = await_result(self._uploads.submit(patiently, meant, self._outage))
        pins = Pins(patiently(self.model_index.all, self._outage).values(), model)
        # what a repeat names was there when the first was taken, or may have been to come
        check_files = _take if is_repeat else self._file_check(model, pins)
        check_files(params)
        job = new_job(
            tenant=tenant,
            model=model,
            params=draw_seeds(pins.of(params)) if draws_seeds else pins.of(params),
            name=name,
            owner=owner,
            tags=tuple(tags),
            keep=self.settings.keep if keep is None else read_duration(keep),
            priority=priority,
            idempotency_key=idempotency_key,
        )
        patiently(self._prove_store, self._outage)
        self.serve(model)
        patiently(lambda: self._submissions.begin(job.id), self._outage)
        return Submission(
            job,
            request=request_of(asked, params),
            store=self.store,
            ledger=self.ledger,
            submissions=self._submissions,
            intake=self.intake,
            pool=self._uploads,
            committed=self.notify_workers,
            stored=stored,
            outage=self._outage,
            pins=pins,
            still_there=self.check_files,
            check_files=check_files,
        )

    def _file_check(self, model: str, pins: Pins) -> Callable[[Params], None]:
        check = FileCheck(
            self.redis,
            workers=lambda: [each.info.id for each in self.workers() if model in each.info.models],
            pins=pins,
            check_checkpoint=partial(self._check_other, model),
        )
        return lambda params: patiently(partial(check.check, params), self._outage)

    def _prove_store(self) -> None:
        # in a thread of the pool: Ctrl-C is not heard in a call to a store that hangs
        await_result(self._uploads.submit(self._establish_store))


def _take(_: Params) -> None:
    """Check nothing."""
