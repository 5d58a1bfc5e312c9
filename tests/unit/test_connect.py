"""What answers at a Redis URL, and is no Redis; and what the errors of redis-py and kombu mean."""

import socket
import threading
from collections.abc import Callable

import pytest
import redis
from kombu.exceptions import BatchPublishError, EncodeError, KombuError, SerializationError
from redis._parsers.base import BaseParser
from redis.exceptions import RedisError

from img2img_shared.errors import Unavailable
from img2img_shared.ledger.connect import answering, connect

#: what redis-py makes of an error as it comes over the connection
parse_error: Callable[[str], Exception] = BaseParser.parse_error


def test_a_server_that_is_no_redis_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        told = r"Redis at redis://127\.0\.0\.1:\d+ does not answer: what answers there is no Redis \(.*\bH"
        with pytest.raises(Unavailable, match=told):
            connect(f"redis://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        ("NOAUTH Authentication required.", "does not let us in"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "does not let us in"),
        ("NOPERM User farm has no permissions to run the 'set' command", "does not let us in"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "takes no writes"),
        ("READONLY You can't write against a read only replica.", "takes no writes"),
        ("MISCONF Redis is configured to save RDB snapshots, but", "takes no writes"),
        ("NOREPLICAS Not enough good replicas to write.", "takes no writes"),
        ("MASTERDOWN Link with MASTER is down", "cannot answer now"),
        ("CLUSTERDOWN The cluster is down", "cannot answer now"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "cannot answer now"),
        ("MOVED 3999 127.0.0.1:6381", "cannot answer now"),
        ("BUSY Redis is busy running a script.", "cannot answer now"),
        ("UNKILLABLE Sorry the script already executed write commands", "cannot answer now"),
        ("EXECABORT Transaction discarded because of previous errors.", "cannot answer now"),
        ("LOADING Redis is loading the dataset in memory", "does not answer"),
        ("ERR max number of clients reached", "does not answer"),
    ],
)
def test_what_a_server_says_of_itself_is_unavailable(answer: str, trouble: str) -> None:
    with pytest.raises(Unavailable, match=f"^Redis {trouble}: "), answering():
        raise parse_error(answer)


def test_where_in_a_script_an_error_came_up_is_left_out() -> None:
    where = f"script: {'3' * 40}, on @user_script:450."
    with pytest.raises(Unavailable) as told, answering():
        raise parse_error(f"OOM command not allowed when used memory > 'maxmemory'. {where}")
    assert str(told.value) == "Redis takes no writes: command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize("answer", ["ERR syntax error", "ERR unknown command 'PONG'"])
def test_what_a_server_says_of_our_command_comes_through(answer: str) -> None:
    with pytest.raises(redis.ResponseError, match=answer.removeprefix("ERR ")), answering():
        raise parse_error(answer)


def test_a_key_of_another_type_is_named_with_the_way_out() -> None:
    with (
        pytest.raises(Unavailable, match=r"^Redis cannot serve the farm: a key holds .*; rename"),
        answering(),
    ):
        raise parse_error("WRONGTYPE Operation against a key holding the wrong kind of value")
    with pytest.raises(Unavailable, match=r"^Redis cannot serve the farm: its key f:m s"), answering():
        raise parse_error("WRONGTYPE f:m s script: on @user_script:17.")


def descendants(family: type[BaseException]) -> list[type[BaseException]]:
    """A class and all that are derived from it."""
    return [family, *(each for child in family.__subclasses__() for each in descendants(child))]


@pytest.mark.parametrize(
    "kind",
    [
        *(
            each
            for each in descendants(RedisError)
            if not issubclass(each, redis.ResponseError | redis.DataError)
        ),
        *(each for each in descendants(KombuError) if not issubclass(each, SerializationError)),
    ],
)
def test_no_error_of_either_library_escapes(kind: type[BaseException]) -> None:
    error = kind.__new__(kind)  # some want arguments that say nothing here
    with pytest.raises(Unavailable), answering():
        raise error


def test_of_a_batch_that_broke_off_the_reason_is_told() -> None:
    with pytest.raises(Unavailable, match="Redis takes no writes: disk"), answering():
        raise BatchPublishError("delivery is uncertain") from redis.ReadOnlyError("disk")
    with pytest.raises(Unavailable, match="does not answer: delivery is uncertain"), answering():
        raise BatchPublishError("delivery is uncertain")


def test_what_is_no_error_of_a_server_is_left_alone() -> None:
    errors = (EncodeError("a set"), redis.DataError("a set"), ValueError("ours"), KeyboardInterrupt())
    for error in errors:
        with pytest.raises(type(error)), answering():
            raise error
