"""The options that a Redis URL may have, by redis-py's names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_whole(text: str) -> bool:
    """Whether the text is a whole number in plain digits."""
    return text.isascii() and text.isdigit()


def _whole(text: str) -> int:
    if not is_whole(text) or len(text) > 9:
        raise ValueError
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 3 <= seconds <= 60:  # the ledger itself waits for 2 s in one command
        raise ValueError
    return seconds


def _truth(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _client_name(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text or not text:
        raise ValueError
    return text


def _requirement(text: str) -> str:
    """redis-py's spelling, or Celery's: CERT_NONE."""
    found = text.lower().removeprefix("cert_")
    if found not in ("none", "optional", "required"):
        raise ValueError
    return found


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError
    return text


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise ValueError
    return text


_FILE = "a file that can be read"
#: what a URL may say of the connections: how it is read, and what is allowed
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "db": (_whole, "a whole number from 0"),
    "username": (_text, "a user's name"),
    "password": (_text, "a password"),
    "client_name": (_client_name, "a name without spaces"),
    "socket_timeout": (_seconds, "a number of seconds from 3 to 60"),
    "socket_connect_timeout": (_seconds, "a number of seconds from 3 to 60"),
    "socket_keepalive": (_truth, "true or false"),
    "health_check_interval": (_whole, "a whole number of seconds from 0"),
    "ssl_cert_reqs": (_requirement, "none, optional or required"),
    "ssl_check_hostname": (_truth, "true or false"),
    "ssl_ca_certs": (_file, _FILE),
    "ssl_ca_path": (_folder, "a folder that can be read"),
    "ssl_certfile": (_file, _FILE),
    "ssl_keyfile": (_file, _FILE),
    "ssl_password": (_text, "a password"),
    "master_name": (_text, "what the sentinels call the server"),
    "sentinel_username": (_text, "a user's name"),
    "sentinel_password": (_text, "a password"),
}
KNOWN = f"known are {', '.join(OPTIONS)}"
