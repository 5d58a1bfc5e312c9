"""How long a group of images keeps its turn after weights were changed for it."""

#: the calls that follow a change of weights take so many times as long as it did, at least
AT_LEAST = 10
#: seconds after which the others have their turn all the same
MOST = 5.0


class Switching:
    """Weighs what it costs to change weights (LoRAs that are merged) against how long others wait."""

    def __init__(self) -> None:
        self._left = 0.0

    @property
    def stays(self) -> bool:
        """Whether the group that had the last call is to have the next one."""
        return self._left > 0

    def called(self, seconds: float, changing: float) -> None:
        """A model call took so long, out of which changing weights took `changing`."""
        if changing:
            self._left = min(AT_LEAST * changing, MOST)
        self._left -= seconds - changing
