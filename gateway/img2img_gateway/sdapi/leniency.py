"""What to do with parts of a request that A1111 silently ignores: ignore them with a warning, or refuse."""

from typing import Any

from img2img_shared.errors import Refused


class Leniency:
    """The policy for one request, and its warnings.

    The rule: an unknown name (of a sampler, a schedule, a style, a script, a LoRA) is refused even where
    A1111 renders something. Whatever A1111 ignores without a change to the picture is ignored, and named in
    the answer's ``info.warnings``; with `strict` it is refused.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.warnings: list[str] = []

    def set_aside(self, field: str, value: Any, why: str, *, told: bool = True) -> None:
        """Ignore the request's `value`, which has no effect on its pictures.

        Args:
            told: whether to warn.

        Raises:
            Refused: the gateway is strict.
        """
        if self._strict:
            raise Refused(field, value, why)
        if told:
            self.warnings.append(f"{field}: {why}")
