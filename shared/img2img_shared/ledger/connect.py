"""The connection to Redis, and the one way in which its absence is reported."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import redis
from kombu.exceptions import KombuError, SerializationError
from redis.backoff import NoBackoff
from redis.exceptions import AskError, AuthorizationError, ClusterError, RedisError, TryAgainError
from redis.retry import Retry

from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import keys

#: seconds until a server that does not take the connection counts as away
CONNECT_TIMEOUT = 3.0
#: seconds until a server that does not answer counts as away
ANSWER_TIMEOUT = 5.0
#: whose error is that we are not let in
_CLOSED = (redis.AuthenticationError, AuthorizationError, redis.exceptions.NoPermissionError)
#: whose error is that a server which answers takes no writes, and the codes of those without a class
_READ_ONLY = (redis.exceptions.OutOfMemoryError, redis.ReadOnlyError)
_READ_ONLY_CODES = ("MISCONF", "NOREPLICAS")  # its disk is full, or a replica that it must have is missing
#: answers of a server that can do nothing for us now, and the codes of those without a class
_ELSEWHERE = (ClusterError, TryAgainError, AskError)
_ELSEWHERE_CODES = ("BUSY", "UNKILLABLE")  # a script hangs


class FarmRedis:
    """One farm's Redis, for any number of threads. Nothing else of the project talks to it but Celery.

    What is called raises `Unavailable` when Redis does not answer, or takes no writes. It may have taken
    effect then.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.prefix = prefix
        self._client = client
        self._execute: Callable[..., Any] = client.execute_command
        self._scripts: dict[str, Callable[..., Any]] = {}

    def key(self, *parts: str) -> str:
        """A key of this farm: ``{prefix}:one:two``."""
        return ":".join((keys.farm_key(self.prefix), *parts))

    def call(self, *words: str | bytes | int | float) -> Any:
        """What Redis answers to one command."""
        with answering():
            return self._execute(*words)

    def run(self, script: str, *arguments: str | bytes | int) -> Any:
        """What one of the Lua scripts answers, by its file's name."""
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(keys.script(script))
        with answering():
            return self._scripts[script](keys=[keys.farm_key(self.prefix)], args=arguments)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(url: str, prefix: str = "img2img") -> FarmRedis:
    """The farm of this prefix in the Redis at `url`, which has answered once.

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
    return FarmRedis(client, prefix)


@contextmanager
def answering(where: str = "the ledger") -> Iterator[None]:
    """Turns whatever redis-py and kombu raise when a server does not do its part into `Unavailable`.

    That is all of either family, so that an error which a newer version adds is among them; but not what
    says that our own command or message is wrong (redis-py's other ``ResponseError``s and ``DataError``,
    kombu's ``SerializationError``), which comes through as it is.
    """
    try:
        yield
    except (RedisError, KombuError, OSError) as error:
        # kombu says of a batch only that its delivery is uncertain: the reason is what it was raised from
        reason = error.__cause__ if isinstance(error, KombuError) and error.__cause__ else error
        if (trouble := _trouble(reason)) is None:
            raise
        raise Unavailable(f"Redis at {where} {trouble}: {reason}") from error


def _trouble(error: BaseException) -> str | None:
    """What an error says of the server; None: it is about the command."""
    code = str(error).partition(" ")[0]  # redis-py strips it where it has a class for it
    if isinstance(error, _CLOSED):
        return "does not let us in"
    if isinstance(error, _READ_ONLY) or code in _READ_ONLY_CODES:
        return "takes no writes"
    if isinstance(error, _ELSEWHERE) or code in _ELSEWHERE_CODES:
        return "cannot answer now"
    if isinstance(error, redis.ResponseError | redis.DataError | SerializationError):
        return None
    return "does not answer"


def without_password(url: str) -> str:
    """`url` as it may be shown."""
    return re.sub(r"(?<=://)[^/?]*@", "…@", re.sub(r"(?<=[?&]password=)[^&]*", "…", url))
