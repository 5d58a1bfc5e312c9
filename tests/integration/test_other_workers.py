"""What only other workers have, by what Redis says of them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.params import Params
from img2img_worker.farm.other_workers import INVERSION, OtherWorkers
from img2img_worker.farm.own_files import OwnFiles
from tests.loaded_model import loaded_model
from tests.servers import RedisServer


def test_no_prompt_is_read_without_what_other_workers_have_while_redis_does_not_say_what_that_is() -> None:
    server = RedisServer()
    model: Any = loaded_model(None)
    loaded = SimpleNamespace(loaded={})
    model.checkpoint.family = SimpleNamespace(inversions=SimpleNamespace(current=lambda: loaded))
    try:
        with connect(server.url) as redis:
            others = OtherWorkers(Ledger(redis), redis, cast(OwnFiles, None))
            others.check_words(model, Params(prompt="a gold cat"))
            server.stop()
            others = OtherWorkers(Ledger(redis), redis, cast(OwnFiles, None))
            with pytest.raises(Unavailable):
                others.check_words(model, Params(prompt="a gold cat"))
            assert others.having(model, Refused(INVERSION, "gold", "this worker has no such file")) == []
    finally:
        server.remove()
