"""The cache that is bounded by what its values take."""

import pytest

from img2img_shared.lru_cache import LruCache


@pytest.fixture
def cache() -> LruCache[str, str]:
    """Holds words, of which each letter takes 1."""
    cache: LruCache[str, str] = LruCache(size_of=len)
    for word in ("one", "two", "three"):
        cache.put(word, word.upper())
    return cache


def held(cache: LruCache[str, str]) -> set[str]:
    return {word for word in ("one", "two", "three", "four") if cache.get(word) is not None}


def test_what_was_put_in_is_found_and_nothing_else(cache: LruCache[str, str]) -> None:
    assert cache.get("two") == "TWO"
    assert cache.get("four") is None
    assert len(cache) == 3


def test_the_least_recently_used_go_first(cache: LruCache[str, str]) -> None:
    cache.get("one")
    cache.trim(8)
    assert held(cache) == {"one", "three"}


def test_as_many_stay_as_fit(cache: LruCache[str, str]) -> None:
    cache.trim(11)
    assert held(cache) == {"one", "two", "three"}
    cache.trim(10)
    assert held(cache) == {"two", "three"}


def test_the_last_used_stays_however_large_it_is(cache: LruCache[str, str]) -> None:
    cache.trim(1)
    assert held(cache) == {"three"}


def test_more_of_the_last_used_stay_where_that_is_asked_for(cache: LruCache[str, str]) -> None:
    cache.trim(1, keep=2)
    assert held(cache) == {"two", "three"}
    cache.trim(1, keep=0)
    assert held(cache) == set()


def test_a_value_takes_the_place_of_the_one_before_it(cache: LruCache[str, str]) -> None:
    cache.put("one", "1")
    cache.trim(9)
    assert held(cache) == {"one", "two", "three"}
    assert cache.get("one") == "1"
