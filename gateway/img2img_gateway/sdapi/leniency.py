"""What A1111 sets aside without a word: set aside here too, with a warning, or refused."""

from typing import Any

from img2img_shared.errors import Refused


class Leniency:
    """Of one request.

    The rule: a name that means nothing here (of a sampler, a schedule, a style, a script, a LoRA) is refused
    even where A1111 renders something. What it leaves out of account, without another picture for it, is
    left out of account, and named in the answer's ``info.warnings``; with `strict` it is refused.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.warnings: list[str] = []

    def set_aside(self, field: str, value: Any, why: str, *, told: bool = True) -> None:
        """The request's `value` has no part in its pictures.

        Args:
            told: with a warning.

        Raises:
            Refused: it is a strict gateway's.
        """
        if self._strict:
            raise Refused(field, value, why)
        if told:
            self.warnings.append(f"{field}: {why}")
