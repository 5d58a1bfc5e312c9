"""Claims images one after the other, makes them by their recipes, and stores and reports them."""

import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from numpy.typing import NDArray

from img2img_shared.errors import Refused, Summary, Unavailable
from img2img_shared.job import PAGE, ImageState, Input, Job, inputs_key
from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from img2img_worker.engine.engine import Render
from img2img_worker.farm.backoff import Backoff
from img2img_worker.farm.broken import end_broken
from img2img_worker.farm.checks import StoreCheck
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import (
    Claimed,
    Failed,
    Finished,
    LetGo,
    Observer,
    Prepared,
    PutBack,
    Rendered,
    Warned,
)
from img2img_worker.farm.health import Health
from img2img_worker.farm.leases import LeasedClaim, Leases
from img2img_worker.farm.other_workers import OtherWorkers
from img2img_worker.farm.recent_refusals import RecentRefusals
from img2img_worker.farm.recipe import Files, Recipe, ingredients, recipe
from img2img_worker.farm.retries import Retries
from img2img_worker.farm.tile_jobs import TileJobs
from img2img_worker.farm.tiles_recipe import split_into_tiles
from img2img_worker.farm.travel.job_files import files_of
from img2img_worker.farm.travel.model_files import ModelFiles
from img2img_worker.farm.verdict import Blame, Verdict, judge
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.pinned_files import PinnedFiles
from img2img_worker.models.upscalers.upscalers import Upscalers

#: seconds before a ticket returns that found nothing while other images are in hand, at most
PAUSE = 0.2

#: parameters that say nothing of what else images of their job are made with
_OF_EVERY_IMAGE = frozenset({"seed", "subseed"})


class ClaimLoop:
    """Claims and makes images of the current model until stopped. Each ticket's thread calls `serve`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Store,
        store_check: StoreCheck,
        current: CurrentModel,
        files: ModelFiles,
        upscalers: Upscalers,
        face_restorers: FaceRestorers,
        other_workers: OtherWorkers,
        tile_jobs: TileJobs,
        leases: Leases,
        health: Health,
        worker: str,
        stopping: threading.Event,
        observe: Observer,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._store_check = store_check
        self._current = current
        self._files = files
        self._upscalers = upscalers
        self._face_restorers = face_restorers
        self._other_workers = other_workers
        self._tile_jobs = tile_jobs
        self._leases = leases
        self._health = health
        self._worker = worker
        self._stopping = stopping
        self._observe = observe
        self._retries = Retries(
            lease=ledger.lease, leases=leases, health=health, stopping=stopping, observe=observe
        )
        self._refusals = RecentRefusals()
        self._rest = Backoff(stopping, longest=ledger.lease / 4)
        self._job = lru_cache(maxsize=256)(ledger.job)
        self._page = lru_cache(maxsize=64)(self._fetch_page)

    def serve(self, seconds: float) -> int:
        """Claim and render, one after the other, until nothing is left or `seconds` are over.

        Returns:
            how many images were claimed.
        """
        end = time.monotonic() + seconds
        claimed = 0
        while not self._stopping.is_set() and time.monotonic() < end:
            self._health.wait()
            self._rest.take()
            if self._stopping.is_set():
                break
            held = self.take()
            if held is None:
                # the ledger may want this worker idle, for a suspect: no hurry
                self._leases.wait_for_none(PAUSE)
                break
            claimed += 1
            self.carry(held)
        return claimed

    def take(self, *, above: int | None = None) -> LeasedClaim | None:
        """The next image of the current model, of a higher priority than `above`, or None."""
        with self._current.claiming() as model:
            if model is None or (claim := self._claim(model.served.model, above)) is None:
                return None
            model.engine.expect(claim.priority)
            return self._leases.hold(claim, model)

    def _claim(self, model: str, above: int | None) -> Claim | None:
        """The next image, or None. If the reply is lost, the nonce is used to ask for it again."""
        nonce, idle = uuid.uuid4().hex, not len(self._leases)
        for _ in range(2):
            try:
                return self._ledger.claim(model, self._worker, nonce, idle=idle, above=above)
            except Unavailable as error:
                self._observe(Warned(text=f"no claim: {error}"))
                if self._stopping.wait(1):
                    break
        return None

    def carry(self, held: LeasedClaim) -> None:
        """Take one image to its end, whatever that is; never raises."""
        claim = held.claim
        self._observe(Claimed(claim=claim))
        try:
            self._make(held)
        except Exception as error:
            self._give_up(held, error)
        finally:
            self._leases.let_go(held)
            self._observe(LetGo(claim=claim))

    def _give_up(self, held: LeasedClaim, error: Exception) -> None:
        """Decide what `error`, which ended this attempt, means for the image."""
        claim = held.claim
        if isinstance(error, torch.AcceleratorError) or held.model.engine.broken:
            # nothing works on this device any more, and any of the images in flight may be to blame: what
            # the ledger does for those of a worker that died (each runs alone, three lives) is right here too
            end_broken(error)
        if held.is_like_its_job:
            self._refusals.note(claim.job_id, error)
        verdict = judge(error, self._health, partial(self._other_workers.having, held.model))
        became = self._retries.report(held, lambda: self._settle(held, verdict))
        if verdict.blame is Blame.MOMENT:
            self._rest.prolong()
        if became is ImageState.FAILED:
            self._observe(Failed(claim=claim, reason=verdict.reason, error=verdict.error))
        elif became:
            reason = verdict.reason or ("this worker ends" if self._stopping.is_set() else "")
            self._observe(PutBack(claim=claim, reason=reason, error=verdict.error))

    def _settle(self, held: LeasedClaim, verdict: Verdict) -> ImageState | None:
        """Report the verdict to the ledger; returns the image's state, or None if it was too late."""
        claim = held.claim
        match verdict.blame:
            case Blame.IMAGE:
                return ImageState.FAILED if self._ledger.fail(claim, verdict.reason) else None
            case Blame.EITHER:
                return self._ledger.doubt(claim, verdict.reason)
            case Blame.FILES:
                return self._ledger.pass_on(claim, verdict.others, whole_job=held.is_like_its_job)
            case Blame.MOMENT:
                return self._ledger.release(claim, self._ledger.lease / 8, verdict.reason)
            case Blame.WORKER | Blame.NOBODY:
                return self._ledger.release(claim)

    def _make(self, held: LeasedClaim) -> None:
        claim = held.claim
        job = self._retries.from_ledger(held, lambda: self._job(claim.job_id, claim.tenant))
        item = self._input(held, job)
        held.is_like_its_job = item.params.keys() <= _OF_EVERY_IMAGE
        if held.is_like_its_job:
            self._refusals.check(claim.job_id)
        params = job.params_of(item)
        self._retries.from_ledger(
            held, lambda: self._other_workers.check_words(held.model, params, pinned=job.files)
        )
        with files_of(held, job, item, self._files, self._retries) as pinned:
            self._make_with(held, job, item, pinned)

    def _make_with(self, held: LeasedClaim, job: Job, item: Input, pinned: PinnedFiles) -> None:
        claim = held.claim
        wanted = ingredients(job, item)
        blobs = {key: self._fetch(held, key) for key in {*wanted.values()}}  # one picture may have two roles
        pictures = {role: blobs[key] for role, key in wanted.items()}
        run = partial(self._upscalers.enlarge, is_wanted=lambda: not held.lost, pinned=pinned)
        restore = partial(self._face_restorers.restore, is_wanted=lambda: not held.lost)
        served = replace(
            held.model.served,
            run_upscaler=run,
            restore_faces=restore,
            is_interrupted=lambda: held.interrupted,
            pinned=pinned,
        )
        many = split_into_tiles(job, claim.index, item, pictures, served)
        tiles = None if many is None else self._tile_jobs.results(held, job, item, many)
        if many is not None and tiles is None:
            if self._retries.report(held, lambda: self._tile_jobs.wait(claim)):
                self._observe(PutBack(claim=claim, reason="its tiles are rendered first"))
            return
        for key, data in self._follow(recipe(job, item, claim.index, pictures, served, tiles), held).items():
            self._put(held, key, data)
        finish = self._ledger.finish if tiles is None else self._tile_jobs.finish
        if self._retries.report(held, lambda: finish(claim)):
            self._observe(Finished(claim=claim, seconds=held.seconds))
        self._rest.end()

    def _follow(self, steps: Recipe, held: LeasedClaim) -> Files:
        """Run a recipe, with its renders done by the engine; returns the files it makes."""
        try:
            renders = next(steps)
            while True:
                renders = steps.send(self._rendered(renders, held))
        except StopIteration as end:
            files: Files = end.value
            return files

    def _rendered(self, renders: Sequence[Render], held: LeasedClaim) -> list[NDArray[Any]]:
        """The engine's results for all renders; if one fails, or the claim is lost, all are cancelled."""
        counted = held.counter()
        engine = held.model.engine
        priority = held.claim.priority
        futures = [engine.submit(render, counted, priority=priority) for render in renders]
        held.picture = futures[-1]
        self._observe(Prepared(claim=held.claim))
        held.stop_with(lambda: _cancel(futures), lambda: engine.end_early(*futures))
        try:
            pictures = [future.result() for future in futures]
        finally:
            _cancel(futures)
        self._observe(Rendered(claim=held.claim))
        return pictures

    def _fetch(self, held: LeasedClaim, key: str) -> bytes:
        return self._retries.from_store(held, lambda: self._store.get_picture(key))

    def _put(self, held: LeasedClaim, key: str, data: bytes) -> None:
        self._store_check.needs(len(data))
        self._retries.from_store(held, lambda: self._store.put(key, data))

    def _input(self, held: LeasedClaim, job: Job) -> Input:
        number, _ = job.output(held.claim.index)
        page, place = divmod(number, PAGE)
        inputs = self._retries.from_store(held, lambda: self._page(job.id, page))
        if place >= len(inputs):
            raise Refused(
                "inputs",
                Summary(f"page {page} of {len(inputs)}"),
                f"input {number} is not on it; submit the job again",
            )
        return inputs[place]

    def _fetch_page(self, job_id: str, page: int) -> tuple[Input, ...]:
        return decode_inputs(self._store.get(inputs_key(job_id, page)))


def _cancel(futures: Sequence[Future[Any]]) -> None:
    for future in futures:
        future.cancel()
