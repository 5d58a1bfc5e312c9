"""The gateway's settings, besides those of every program of the farm."""

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from img2img_shared.settings import Settings

_MIB = 1024 * 1024


class GatewaySettings(Settings):
    """``IMG2IMG_…`` variables; lists are written as JSON, ``IMG2IMG_CORS_ORIGINS='["https://example.org"]'``."""

    #: address to listen on; any but this machine's own needs API keys, or `api_auth`
    host: str = "127.0.0.1"
    #: port to listen on; 0: a free one
    port: Annotated[int, Field(ge=0, le=65535)] = 7860
    #: origins whose pages may call it; "*": any
    cors_origins: tuple[str, ...] = ()
    #: A1111's ``--api-auth``: "user:password,other:password"; their tenant is that of the settings
    api_auth: str | None = None

    #: connections at a time; the next one waits
    max_connections: Annotated[int, Field(ge=1)] = 2000
    #: seconds within which a request's headers must arrive, and the next request on a connection
    header_timeout: Annotated[float, Field(gt=0, le=60)] = 10.0
    #: bytes of one picture
    max_upload: Annotated[int, Field(ge=1024)] = 64 * _MIB
    #: bytes of a JSON body, which is held in memory
    max_body: Annotated[int, Field(ge=1024)] = 128 * _MIB
    #: bytes on the temporary disk for all requests that are being received; a tenant may use half of them
    upload_space: Annotated[int, Field(ge=1024)] = 8 * 1024 * _MIB
    #: pictures in one request
    max_inputs: Annotated[int, Field(ge=1)] = 100_000
    #: seconds without a byte in either direction after which a connection is closed
    upload_timeout: Annotated[float, Field(gt=0)] = 60.0
    #: seconds within which a whole request must arrive
    upload_limit: Annotated[float, Field(gt=0)] = 3600.0
    #: seconds between the signs of life during a synchronous call; shorter than proxies' idle timeouts
    keep_alive: Annotated[float, Field(gt=0)] = 15.0

    #: refuse on /sdapi what A1111 ignores: unknown fields, a checkpoint that the farm does not have, ...
    strict: bool = False
    #: A1111's styles.csv: name, prompt, negative_prompt
    styles_file: Path | None = None
    #: let webhooks go to private addresses, and over plain http
    webhook_private: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
