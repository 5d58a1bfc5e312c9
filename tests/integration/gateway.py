"""A listening gateway, and a fake worker that speaks the real protocol without rendering."""

import asyncio
import io
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import httpx
from PIL import Image

from img2img_gateway.app import create_app
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.serve import listen
from img2img_shared.checkpoints import checkpoint_name
from img2img_shared.job import PAGE, inputs_key, result_key
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.records import Claim, WorkerInfo
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from img2img_worker.pictures.infotext import infotext
from img2img_worker.pictures.picture_file import encode_picture
from tests.eventually import eventually

#: seconds until a test gives up waiting
PATIENCE = 120.0

P = ParamSpec("P")
T = TypeVar("T")


def picture(number: int = 0, size: int = 64) -> bytes:
    """A PNG, different for each number."""
    data = io.BytesIO()
    Image.new("RGB", (size, size), (number % 256, number // 256 % 256, 90)).save(data, "PNG")
    return data.getvalue()


class Gateway:
    """A gateway on a port of its own, in a thread, on a real Redis and a folder, or with an embedded farm."""

    def __init__(
        self, redis_url: str | None = None, store: str | Path | None = None, **settings: Any
    ) -> None:
        chosen = {"port": 0, **settings}
        store_url = None if store is None else str(store)
        self.settings = GatewaySettings(redis_url=redis_url, store_url=store_url, **chosen)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def upload(self, model: str) -> str:
        """A job of one small, quick picture."""
        form = {"model": model, "steps": "2", "width": "64", "height": "64"}
        answer = self.http.post("/v1/jobs/upload", data=form, files={"image": ("a.png", picture(1))})
        return str(answer.raise_for_status().json()["id"])

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(listen(create_app(self.settings), self.settings, self._stop, self._told))

    def _told(self, port: int) -> None:
        self.port = port

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        eventually("it listens", lambda: self._listens() or not self._thread.is_alive())
        assert self._thread.is_alive(), "it did not start"
        self.url = f"http://127.0.0.1:{self.port}"
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, limits=limits)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


class FakeWorker:
    """Ends images as a worker does: claim, picture into the store, finish. Its picture has one colour."""

    def __init__(self, redis_url: str, store: str | Path, model: str = "m", tenant: str = "default") -> None:
        self.client = connect(redis_url)
        self.ledger = Ledger(self.client, lease=3600.0)  # one sign of life is enough for a slow test
        self.store = Store(store)
        self.model = model
        self.tenant = tenant
        self.worker = uuid.uuid4().hex
        #: the seeds of the images
        self.seeds: list[int] = []
        self._claims: list[Claim] = []
        self.sha256 = "0123456789" + "0" * 54
        self._info = WorkerInfo(
            id=self.worker,
            model=model,
            device="none",
            slots=4,
            file_name=Path(model).name,
            sha256=self.sha256,
        )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.ledger.beat(self._info)

    def claim(self) -> Claim | None:
        """The next image, if there is one now."""
        claim = self.ledger.claim(self.model, self.worker, uuid.uuid4().hex, idle=True)
        self._claims += [claim] if claim else []
        return claim

    def await_claim(self) -> Claim:
        """Wait for the next image."""
        found: Claim = eventually("there is an image to claim", self.claim)
        return found

    def end(self, claim: Claim) -> bytes:
        """Finish an image; the bytes of its result."""
        job = self.ledger.job(claim.job_id, claim.tenant)
        at, _ = job.output(claim.index)
        item = decode_inputs(self.store.get(inputs_key(job.id, at // PAGE)))[at % PAGE]
        params, (seed, subseed) = job.params_of(item), job.seeds(claim.index, item)
        text = infotext(
            params,
            prompt=params.prompt,
            negative_prompt=params.negative_prompt,
            seed=seed,
            subseed=subseed,
            model=checkpoint_name(self.model),
            model_hash=self.sha256[:10],
            masked="mask" in job.pictures_of(item),
        )
        size = (params.width // 8 * 8, params.height // 8 * 8)  # rounded down, as by a worker
        data = encode_picture(Image.new("RGB", size, (seed % 256, 0, 0)), job.params.output_format, text)
        self.store.put(result_key(job.id, claim.index, job.params.output_format), data)
        assert self.ledger.finish(claim)
        self.seeds.append(seed)
        return data

    def work(self, n: int | None = None) -> int:
        """End `n` images, or all there are; how many."""
        count = 0
        while n is None or count < n:
            claim = self.claim()
            if claim is None:
                break
            self.end(claim)
            count += 1
        return count

    def give_up(self) -> None:
        """Cancel every job, and give up the claimed images."""
        for job in self.ledger.jobs(self.tenant):
            self.ledger.cancel(job.id, self.tenant)
        for claim in self._claims:
            self.ledger.release(claim)

    def __enter__(self) -> Self:
        """From now on, end images in a thread."""
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
        self.client.close()

    def _loop(self) -> None:
        while not self._stop.is_set():
            if not self.work():
                self.ledger.beat(self._info)
                time.sleep(0.02)


class Callers:
    """Makes calls in threads. Those that still wait at the end are given up, with all jobs.

    So an assertion that fails between a call and its answer is told at once, and not when the test times out.
    """

    def __init__(self, fake_worker: FakeWorker, threads: int = 8) -> None:
        self._fake_worker = fake_worker
        self._pool = ThreadPoolExecutor(threads)
        self._calls: list[Future[Any]] = []

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future result of `function`."""
        call = self._pool.submit(function, *args, **kwargs)
        self._calls.append(call)
        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        eventually("the calls have ended", self._ended)
        self._pool.shutdown()

    def _ended(self) -> bool:
        if all(call.done() for call in self._calls):
            return True
        self._fake_worker.give_up()
        return False
