"""Parses ``--control``: a control unit as one word, and its pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from img2img_shared.errors import Refused

FORM = "write NETWORK[:MODULE[:WEIGHT]][=FOLDER or FILE], as in canny=edges/ or tile:tile_resample:0.6"


@dataclass(frozen=True, kw_only=True)
class ControlWord:
    """The contents of such a word."""

    #: fields of a `ControlUnit`
    unit: dict[str, Any]
    #: pictures to look at: one for all inputs, or a folder of one for each; None: the inputs themselves
    source: Path | None

    @classmethod
    def read(cls, word: str) -> "ControlWord":
        """
        Raises:
            Refused: it has another form.
        """
        settings, _, source = word.partition("=")
        network, *more = settings.split(":")
        if not network.strip() or len(more) > 2:
            raise Refused("control", word, FORM)
        unit: dict[str, Any] = {"model": network}
        if more and more[0]:
            unit["module"] = more[0]
        if len(more) == 2:
            try:
                unit["weight"] = float(more[1])
            except ValueError:
                raise Refused("control", word, FORM) from None
        return cls(unit=unit, source=Path(source) if source else None)
