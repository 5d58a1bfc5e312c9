"""Makes something happen in the middle of a submit."""

import re
from collections.abc import Callable

import pytest

from img2img_shared.store import Store

_PAGE = re.compile("jobs/[0-9a-f]+/inputs/")


def after_pages(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call `act` each time that a page of inputs has been written, right before the job is written."""
    put = Store.put

    def put_and_act(self: Store, key: str, data: bytes) -> None:
        put(self, key, data)
        if _PAGE.match(key):
            act()

    monkeypatch.setattr(Store, "put", put_and_act)
