"""The connection to Redis, which reports every failure of Redis as `Unavailable`."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import redis
from kombu.exceptions import KombuError, SerializationError
from msgpack import UnpackException
from redis.exceptions import (
    AskError,
    AuthorizationError,
    ClusterError,
    ExecAbortError,
    NoScriptError,
    RedisError,
    TryAgainError,
)

from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import clients, keys
from img2img_shared.ledger.redis_url import read_redis_url

#: of a command
Word = str | bytes | int | float

#: whose error is that we are not let in
_CLOSED = (redis.AuthenticationError, AuthorizationError, redis.exceptions.NoPermissionError)
#: whose error is that a server which answers takes no writes, and the codes of those without a class
_READ_ONLY = (redis.exceptions.OutOfMemoryError, redis.ReadOnlyError, clients.Demoted)
_READ_ONLY_CODES = ("MISCONF", "NOREPLICAS")  # its disk is full, or a replica that it must have is missing
#: answers of a server that can do nothing for us now, and the codes of those without a class
_ELSEWHERE = (ClusterError, TryAgainError, AskError, ExecAbortError)
_ELSEWHERE_CODES = ("BUSY", "UNKILLABLE")  # a script hangs
#: where in a script of ours an error came up, which says nothing to who runs the server
_IN_SCRIPT = re.compile(r" script: ([0-9a-f]{40}, )?on @user_script:\d+\.")
#: the code of its answer where a key holds another type than a command is for; our scripts name the key
_DAMAGED = "WRONGTYPE"
_UNFIT = "cannot serve the farm"
#: how it tells whoever brings none, at the first command or at another
_WANTS_PASSWORD = ("HELLO must be called with the client already authenticated", "Authentication required")


class FarmRedis:
    """One farm's Redis, for any number of threads. Apart from Celery, nothing else talks to Redis.

    Calls raise `Unavailable` when Redis does not answer, or refuses writes. They may have taken effect then.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.prefix = prefix
        #: told of each script that was run: its name, and the seconds that it took from here
        self.on_call: Callable[[str, float], None] | None = None
        self._client = client
        #: text and SHA-1 of each script that was run
        self._scripts: dict[str, tuple[str, str]] = {}

    def key(self, *parts: str) -> str:
        """A key of this farm: ``{prefix}:one:two``."""
        return ":".join((keys.farm_key(self.prefix), *parts))

    def call(self, *words: Word) -> Any:
        """The answer to one command."""
        return self._ask(words)[0]

    def run(self, script: str, *arguments: Word) -> Any:
        """The answer of a Lua script, by its file's name."""
        begun = time.perf_counter()
        answer = self._run(script, arguments)[0]
        if self.on_call is not None:
            self.on_call(script, time.perf_counter() - begun)
        return answer

    def run_and_wait(self, script: str, *arguments: Word, wait: Sequence[Word]) -> list[Any]:
        """The answers of a script and, right after it on the same connection, of the command `wait`."""
        return self._run(script, arguments, wait)

    def replicas(self) -> int:
        """How many replicas must have a write that is to outlive the primary, at least 1.

        With sentinels, it is all that are alive: any of them may be promoted, while the primary goes
        on with the others for some seconds. Without sentinels nobody says how many there are.
        """
        with answering():
            return clients.live_replicas(self._client.connection_pool) or 1

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _run(self, script: str, arguments: Sequence[Word], *more: Sequence[Word]) -> list[Any]:
        text, sha1 = self._script(script)
        command = ("EVALSHA", sha1, 1, keys.farm_key(self.prefix), *arguments)
        try:
            return self._ask(command, *more)
        except NoScriptError:
            self._ask(("SCRIPT", "LOAD", text))
            return self._ask(command, *more)

    def _script(self, script: str) -> tuple[str, str]:
        if script not in self._scripts:
            text = keys.script(script)
            self._scripts[script] = text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return self._scripts[script]

    def _ask(self, *commands: Sequence[Word]) -> list[Any]:
        """The primary's answers to `commands`.

        Each time, the server is also asked for its role: one that was demoted would refuse writes, but answer
        reads from old data forever.
        """
        with answering(), self._naming_key(commands[0]):
            try:
                return self._ask_once(commands)
            except clients.Demoted:  # it had no effect; idle connections lead to the same replica
                self._client.connection_pool.disconnect(inuse_connections=False)
                return self._ask_once(commands)

    @contextmanager
    def _naming_key(self, command: Sequence[Word]) -> Iterator[None]:
        """Have a WRONGTYPE error name the key that holds a value of another type."""
        try:
            yield
        except redis.ResponseError as error:
            own = keys.farm_key(self.prefix) + ":"
            named = [word for word in command if isinstance(word, str) and word.startswith(own)]
            if not str(error).startswith(f"{_DAMAGED} Operation") or not named:
                raise
            raise redis.ResponseError(f"{_DAMAGED} {named[0]}") from error

    def _ask_once(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipe:
            queue: Callable[..., Any] = pipe.execute_command
            for command in (clients.WHO, *commands):
                queue(*command)
            return clients.of_primary(pipe.execute(raise_on_error=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(url: str, prefix: str = "img2img") -> FarmRedis:
    """Connect to the farm of this prefix in the Redis at `url` (see `redis_url`), and check that it answers.

    Raises:
        Refused: the URL cannot be used, or the server cannot serve a farm.
        Unavailable: nothing answers there, or it refuses us, or it is a replica.
    """
    address = read_redis_url(url)
    client = redis.Redis.from_pool(clients.pool(address))
    try:
        with answering(address.shown):
            _check(client, address.shown)
    except redis.ResponseError as error:
        client.close()
        raise Refused(
            "redis_url", address.shown, f"give a database of a Redis 7 or newer ({error})"
        ) from None
    except BaseException:
        client.close()
        raise
    return FarmRedis(client, prefix)


def _check(client: redis.Redis, where: str) -> None:
    """Check that the server can serve a farm."""
    execute: Callable[..., Any] = client.execute_command
    facts = clients.facts(execute(*clients.WHO))
    mode, role = facts.get(b"mode"), facts.get(b"role")
    if mode == b"cluster":
        raise Refused(
            "redis_url", where, "this is a cluster, which Celery cannot use; give a single Redis or sentinels"
        )
    if mode == b"sentinel":
        raise Refused(
            "redis_url", where, "a sentinel answers there; give sentinel://... with its master_name"
        )
    if role != b"master":
        raise Unavailable(f"Redis at {where} takes no writes: it is a replica")


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Within the context, errors from a key that another program has overwritten become `Unavailable`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, UnpackException) as error:
        told = _way_out(key)
        raise Unavailable(f"Redis {_UNFIT}: {told}", reason=f"Redis {_UNFIT}") from error


@contextmanager
def answering(where: str | None = None) -> Iterator[None]:
    """Within the context, errors of redis-py and kombu that are the server's fault become `Unavailable`.

    These are all errors of either library, including any that newer versions add, except those that say
    that our own command or message is wrong (redis-py's other ``ResponseError``s and ``DataError``, kombu's
    ``SerializationError``), which are raised as they are.
    """
    try:
        yield
    except (RedisError, KombuError, OSError) as error:
        # kombu says of a batch only that its delivery is uncertain: the reason is what it was raised from
        reason = error.__cause__ if isinstance(error, KombuError) and error.__cause__ else error
        if (trouble := _trouble(reason)) is None:
            raise
        server = "Redis" if where is None else f"Redis at {where}"
        text = _IN_SCRIPT.sub("", str(reason))
        if text.startswith(_WANTS_PASSWORD):
            text = "it asks for a password: give it in the URL, redis://:PASSWORD@HOST or USER:PASSWORD@HOST"
        if isinstance(reason, redis.exceptions.InvalidResponse):
            text = f"what answers there is no Redis ({text})"
        if text.startswith(_DAMAGED):
            text = _way_out(text.removeprefix(_DAMAGED).strip())
        raise Unavailable(f"{server} {trouble}: {text}", reason=f"Redis {trouble}") from error


def _way_out(key: str) -> str:
    """What to do about a key that another program has written to."""
    which = "a key" if key.startswith("Operation") else f"its key {key}"
    return (
        f"{which} holds what the farm cannot read, of another program perhaps, or of an older version; "
        "rename or delete it, or give the farm another IMG2IMG_PREFIX"
    )


def _trouble(error: BaseException) -> str | None:
    """What an error says about the server; None if it is about the command."""
    code = str(error).partition(" ")[0]  # redis-py strips it where it has a class for it
    if isinstance(error, _CLOSED):
        return "does not let us in"
    if isinstance(error, _READ_ONLY) or code in _READ_ONLY_CODES:
        return "takes no writes"
    if code == _DAMAGED:
        return _UNFIT
    if isinstance(error, _ELSEWHERE) or code in _ELSEWHERE_CODES:
        return "cannot answer now"
    if isinstance(error, redis.ResponseError | redis.DataError | SerializationError):
        return None
    return "does not answer"
