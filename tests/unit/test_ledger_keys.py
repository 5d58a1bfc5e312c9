"""Names of keys, queues and servers."""

import pytest

from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger.connect import connect, without_password
from img2img_shared.ledger.keys import queue_key, queue_name, script


def test_models_that_read_alike_have_queues_of_their_own() -> None:
    models = ["a/b", "a b", "a-b", "A-b", "é", "ü", "x" * 1000, "x" * 1001]
    names = [queue_name(model) for model in models]
    assert len(set(names)) == len(models)
    for name in names:
        assert len(name) < 70
        assert name.isascii()
        assert not set(name) & set(" /\\{}\x06\x16*?")


def test_a_queue_is_named_after_its_model() -> None:
    assert queue_name("runwayml/stable-diffusion-v1-5").startswith("img2img.runwayml-stable-diffusion-v1-5.")


def test_farms_have_queues_of_their_own() -> None:
    assert queue_key("one", "m") != queue_key("two", "m")


def test_each_script_begins_with_what_all_share() -> None:
    common, _, own = script("beat").partition("-- A worker is alive")
    assert common.strip() == script("finish").partition("-- An image is done")[0].strip()
    assert own


@pytest.mark.parametrize("url", ["http://x", "x", "redis://localhost:port/", "memory://"])
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="a redis://, rediss:// or unix:// URL"):
        connect(url)


@pytest.mark.parametrize("url", ["unix:///nowhere/redis.sock", "redis://:secret@localhost:1/0"])
def test_a_server_that_is_away_is_named_without_its_password(url: str) -> None:
    with pytest.raises(Unavailable, match="does not answer") as raised:
        connect(url)
    assert "secret" not in str(raised.value)
    assert without_password(url) in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:p%40ss@host:6379/1", "redis://…@host:6379/1"),
        ("redis://host/1", "redis://host/1"),
        ("unix:///run/redis.sock?db=1&password=x", "unix:///run/redis.sock?db=1&password=…"),
        ("unix://:x@/run/redis.sock", "unix://…@/run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
