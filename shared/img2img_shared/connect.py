"""The connection to Redis, and the one way in which its absence is reported."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from img2img_shared.errors import Refused, Unavailable

#: seconds until a server that does not take the connection counts as away
CONNECT_TIMEOUT = 3.0
#: seconds until a server that does not answer counts as away
ANSWER_TIMEOUT = 5.0
#: what a server that is up says when it cannot write: its disk is full, a replica is missing, a script hangs
REFUSALS = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "BUSY")


def connect(url: str) -> redis.Redis:
    """A thread-safe client of the Redis at `url` that has answered once.

    redis-py's own retry is off: it would send a claim twice when only the answer was lost.

    Raises:
        Refused: not a redis://, rediss:// or unix:// URL.
        Unavailable: nobody answers there, or not us.
    """
    try:
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=ANSWER_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
    except ValueError:
        raise Refused("redis_url", without_password(url), "a redis://, rediss:// or unix:// URL") from None
    with answering(without_password(url)):
        client.ping()
    return client


@contextmanager
def answering(where: str = "the ledger") -> Iterator[None]:
    """Turns what redis-py raises when a server is away, loading, full or closed to us into `Unavailable`."""
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise Unavailable(f"Redis at {where} does not let us in: {error}") from error
    except (redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse, OSError) as error:
        raise Unavailable(f"Redis at {where} does not answer: {error}") from error
    except (redis.exceptions.OutOfMemoryError, redis.ReadOnlyError) as error:
        raise Unavailable(f"Redis at {where} takes no writes: {error}") from error
    except redis.ResponseError as error:
        if not str(error).startswith(REFUSALS):
            raise
        raise Unavailable(f"Redis at {where} takes no writes: {error}") from error


def without_password(url: str) -> str:
    """`url` as it may be shown."""
    return re.sub(r"(?<=://)[^/?]*@", "…@", re.sub(r"(?<=[?&]password=)[^&]*", "…", url))
