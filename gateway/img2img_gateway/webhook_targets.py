"""Where webhooks may go: to public addresses, called by the very address that was looked up."""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from img2img_shared.errors import Refused, Unavailable

#: addresses of a host that are kept: the rest would only be tried after these
KEPT = 4
#: what a request's line has as it is; the rest of a URL, "é" as well as a blank, is written as %C3%A9
_IN_PATHS = "%/?:@!$&'()*+,;=[]"

# What no host of the public internet has. Named here, and not left to `is_global`, whose list is another in
# each version of Python, and which takes what reaches an IPv4 address through IPv6 for public.
_NETWORKS = tuple(
    ipaddress.ip_network(each)
    for each in (
        # IANA's registry of special-purpose IPv4 addresses
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # a public address that is each machine's own service in Azure
        # IANA's registry of special-purpose IPv6 addresses, within the one block that is given to hosts
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
#: what is given to hosts (RFC 4291): mapped, translated, private, site-local and multicast ones are beyond
_IPV6_HOSTS = ipaddress.ip_network("2000::/3")


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

    A host that does not exist and one that is not public are refused alike: who asks learns nothing of the
    names of this network.

    Args:
        private: addresses that are not public are allowed, and so is plain http.

    Raises:
        Refused: it is no https:// URL, or leads to an address that is not public.
        Unavailable: its host cannot be looked up now.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_IN_PATHS)
    except ValueError:
        raise Refused("webhook.url", url, "give a URL") from None
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not private):
        raise Refused("webhook.url", url, "give an https:// URL")
    if not parts.hostname or not parts.hostname.isprintable() or parts.username is not None:
        raise Refused("webhook.url", url, "give a URL with a host and without a password")
    addresses = _look_up(parts.hostname, port)
    if not addresses or not (private or all(map(is_public, addresses))):
        raise Refused("webhook.url", url, "give a URL whose host has a public address")
    return Target(
        scheme=parts.scheme, host=parts.hostname, port=port, path=path, addresses=tuple(addresses[:KEPT])
    )


def is_public(address: str) -> bool:
    """Whether an IP address is that of a host on the public internet."""
    found = ipaddress.ip_address(address)
    if found.version == 6 and found not in _IPV6_HOSTS:
        return False
    return not any(found in network for network in _NETWORKS)


def _look_up(host: str, port: int) -> list[str]:
    """Its addresses; none where there is no such host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        return []
    except OSError as error:
        if error.errno == socket.EAI_AGAIN:
            raise Unavailable("the webhook's host cannot be looked up now") from None
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
