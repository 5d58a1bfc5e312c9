"""Celery's transport: kombu's for Redis, on connections to the farm's URL."""

from typing import Any

from kombu.transport.redis import Channel, Transport
from redis import ConnectionPool

from img2img_shared.ledger import clients
from img2img_shared.ledger.redis_url import RedisAddress


class TicketChannel(Channel):  # type: ignore[misc]  # kombu ships no types
    """A channel to the server at `address`, which is one of the transport's options."""

    from_transport_options = (*Channel.from_transport_options, "address")
    address: RedisAddress
    #: kombu takes connections with a `Retry` for ones that would send a batch twice; ours never tries again
    supports_batch_publish = True

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        options = clients.connection_options(self.address)
        options.setdefault("health_check_interval", self.health_check_interval)
        if asynchronous:
            options["connection_class"] = _notifying_connection(options["connection_class"], self)
        return options

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:
        options = self._connparams(asynchronous)
        self.keyprefix_fanout = Channel.keyprefix_fanout.format(db=options["db"])
        if self.address.master_name is None:
            return clients.pool_with(self.address, options, None)
        known = clients.sentinels(self.address)
        # kombu closes them with the channel
        if asynchronous:
            self._async_sentinel_manager = known
        else:
            self._sentinel_manager = known
        return clients.pool_with(self.address, options, known)


class TicketTransport(Transport):  # type: ignore[misc]  # kombu ships no types
    """The transport; Celery gets it by name, and the broker's URL is only for people to read."""

    Channel = TicketChannel
    can_parse_url = True

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:  # noqa: ARG002 (kombu's)
        """The URL for logs; it contains no password."""
        return uri


def _notifying_connection(kind: type, channel: TicketChannel) -> type:
    """A subclass of `kind` that tells the event loop of `channel` when it closes."""

    class NotifyingConnection(kind):  # type: ignore[misc]
        def disconnect(self, *args: Any, **kwargs: Any) -> None:
            super().disconnect(*args, **kwargs)
            if channel._registered:
                channel._on_connection_disconnect(self)

    return NotifyingConnection
