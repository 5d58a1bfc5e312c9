"""The page of this machine's own farm: a gateway that runs beside `img2img up`, and ends with it."""

import sys
from importlib.util import find_spec
from typing import Self

from img2img_shared.command_line import Connection, say
from img2img_shared.embedded.supervised import Supervised, Supervisor
from img2img_shared.settings import Settings


class OwnPage:
    """A gateway at a port of this machine; however the program ends that holds it, it ends too.

    Raises:
        Unavailable: it cannot be started.
    """

    def __init__(self, said: Connection, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._name = f"gateway-{port}"
        self._supervisor = Supervisor(said.settings(Settings).data_dir.expanduser().absolute())
        self._held: Supervised | None = None
        if find_spec("granian") is None:
            say("for a page in the browser: pip install 'img2img-farm[gateway]'")
            return
        command = [sys.executable, "-m", "img2img_gateway", "gateway", "--port", str(port)]
        # the program's own metrics listen where those of the gateway would
        environment = {**said.environment, "IMG2IMG_METRICS": ""}
        self._held = self._supervisor.keep(self._name, command, environment)

    def check(self) -> bool:
        """Whether it runs; once it does not, that is said."""
        if self._held is not None and not self._held.runs():
            say(f"there is no page at {self.address}{self._supervisor.last_words(self._name)}")
            self.close()
        return self._held is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, unless another program holds it too."""
        if self._held is not None:
            self._held.release()
            self._held = None
