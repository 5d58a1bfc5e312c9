"""A program's connection to a farm: Redis, store, tickets, and the processes of an embedded farm."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

from img2img_shared.embedded.farm import EmbeddedFarm
from img2img_shared.errors import Refused
from img2img_shared.farm.intake import Intake
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.farm.storage import Storage
from img2img_shared.farm.store_janitor import StoreJanitor
from img2img_shared.farm.submission import UPLOADS
from img2img_shared.ledger import Ledger, connect
from img2img_shared.ledger.audit import Audit
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.ledger.previews import Previews
from img2img_shared.ledger.redis_url import read_redis_url
from img2img_shared.ledger.retention import Retention
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.ledger.tables import Table
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.queue import celery_app
from img2img_shared.records import WorkerStatus
from img2img_shared.settings import Settings
from img2img_shared.store import Store


class FarmConnection:
    """The connection that all parts of the service share; see `FarmService`."""

    def __init__(self, settings: Settings, *, outage: float = 0.0) -> None:
        self.settings = settings
        self._outage = outage
        self._embedded: EmbeddedFarm | None = None
        with ExitStack() as closing:
            self.redis_url, self.store_url = self._urls(closing)
            self.store = Store(self.store_url)
            self.redis = closing.enter_context(connect(self.redis_url, settings.prefix))
            self.tickets = closing.enter_context(celery_app(self.redis_url, settings.prefix))
            self.ledger = Ledger(
                self.redis,
                lease=settings.lease,
                keep_jobs=settings.keep_jobs,
                acknowledge=settings.acknowledge,
            )
            self.ledger.check_acknowledge()
            self.previews = Previews(self.redis)
            self._marker = StoreMarker(self.store, self.ledger)
            self._submissions = Submissions(self.redis)
            self.intake = Intake(self.store, self._submissions, self._establish_store, outage)
            self.janitor = StoreJanitor(self.redis, self.store, settings)
            self.retention = Retention(self.redis)
            self.audit = Audit(self.redis)
            self.storage = Storage(self.redis)
            self.model_objects = ModelObjects(self.store)
            self.model_index = ModelIndex(self.redis, self.model_objects)
            self._defaults = Table(self.redis, "defaults")
            self._file_names = FileNames(self.redis)
            self._uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
            # whoever ends must not wait for a store that hangs
            closing.callback(self._uploads.shutdown, wait=False, cancel_futures=True)
            self._closing = closing.pop_all()

    @property
    def is_embedded(self) -> bool:
        """Whether it is a farm in a folder of this machine, which ends with the programs that use it."""
        return self._embedded is not None

    @property
    def where(self) -> str:
        """Which farm it is, as `where`."""
        return where(self.settings)

    def workers(self) -> list[WorkerStatus]:
        """All live workers, whatever they serve."""
        return self.ledger.workers()

    def served(self) -> list[str]:
        """The models of live workers."""
        return self.ledger.served()

    def serve(self, model: str) -> None:
        """On an embedded farm, ensure that there is a worker for `model`, which takes time to load.

        Raises:
            Unavailable: it cannot run here.
        """
        if self._embedded is not None:
            self._embedded.serve(model)

    def supervise(self, model: str) -> bool:
        """Check on an embedded farm's processes; False while its worker for `model` is loading.

        Raises:
            Unavailable: one has ended that cannot be started again; with the last lines of its log.
        """
        return self._embedded is None or self._embedded.supervise(model, lambda: model in self.served())

    def close(self) -> None:
        """Close the connection. An embedded farm's processes stop, unless another program uses them."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _establish_store(self) -> None:
        self._marker.establish(anew=self.is_embedded)

    def _urls(self, closing: ExitStack) -> tuple[str, str]:
        """The URLs of Redis and store: the configured ones, else an embedded farm's."""
        if self.settings.redis_url is None:
            self._embedded = closing.enter_context(EmbeddedFarm(self.settings))
            return self._embedded.redis_url, self._embedded.store_url
        if self.settings.store_url is None:
            reason = "give the store that the workers of this Redis use (IMG2IMG_STORE_URL)"
            raise Refused("store_url", None, reason)
        return self.settings.redis_url, self.settings.store_url


def where(settings: Settings) -> str:
    """Which farm is meant, for people; it reveals a variable that was set but not exported.

    Raises:
        Refused: something is not a URL.
    """
    url, tenant = settings.redis_url, settings.tenant
    place = f"of this machine, in {settings.data_dir}" if url is None else str(read_redis_url(url))
    return place if tenant == Settings.model_fields["tenant"].default else f"{place}, tenant {tenant}"
