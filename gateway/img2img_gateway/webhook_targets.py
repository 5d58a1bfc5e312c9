"""Where webhooks may go: to public addresses, called by the very address that was looked up."""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3

from img2img_shared.errors import Refused, Unavailable

#: seconds to connect, and to answer
CONNECT, ANSWER = 5.0, 15.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """An address that was looked up and found allowed."""

    scheme: str
    host: str
    port: int
    path: str
    #: as they were looked up: whatever the name means a moment later, one of these is called
    addresses: tuple[str, ...]


def find_target(url: str, *, private: bool) -> Target:
    """Look up who is meant by `url`.

    Args:
        private: addresses that are not public are allowed, and so is plain http.

    Raises:
        Refused: it is no https:// URL, or leads to an address that is not public.
        Unavailable: its host cannot be looked up now.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Refused("webhook.url", url, "a URL") from None
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not private):
        raise Refused("webhook.url", url, "an https:// URL")
    if not parts.hostname or parts.username is not None:
        raise Refused("webhook.url", url, "a URL with a host, and without a password")
    addresses = _look_up(parts.hostname, port)
    if not private and any(not ipaddress.ip_address(each).is_global for each in addresses):
        raise Refused("webhook.url", url, f"a public host; {parts.hostname} is {', '.join(addresses)}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=parts.scheme, host=parts.hostname, port=port, path=path, addresses=tuple(addresses))


def post(target: Target, body: bytes, headers: dict[str, str]) -> int:
    """Send `body` to the first address that takes a connection; the status of the answer.

    Redirects are not followed.

    Raises:
        Unavailable: nobody answers.
    """
    default = 443 if target.scheme == "https" else 80
    host = target.host if target.port == default else f"{target.host}:{target.port}"
    failure: Exception | None = None
    for address in target.addresses:
        try:
            return _post(target, address, body, {**headers, "Host": host})
        except urllib3.exceptions.NewConnectionError as error:
            failure = error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = error
            break
    raise Unavailable(f"{target.host} does not answer: {failure}")


def _post(target: Target, address: str, body: bytes, headers: dict[str, str]) -> int:
    timeout = urllib3.Timeout(connect=CONNECT, read=ANSWER)
    pool: urllib3.HTTPConnectionPool
    if target.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(
            address, target.port, timeout=timeout, server_hostname=target.host, assert_hostname=target.host
        )
    else:
        pool = urllib3.HTTPConnectionPool(address, target.port, timeout=timeout)
    with pool:
        answer = pool.request(
            "POST",
            target.path,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,  # what it says beside its status is of no interest, however long
        )
        status = answer.status
        answer.close()
    return status


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise Refused("webhook.url", host, "a host's name") from None
    except OSError as error:
        if error.errno == socket.EAI_AGAIN:
            raise Unavailable(f"{host} cannot be looked up now: {error.strerror}") from None
        raise Refused("webhook.url", host, f"a host that exists ({error.strerror})") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
