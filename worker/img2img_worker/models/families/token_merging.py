"""Token merging (Bolya and Hoffman 2023, arXiv:2303.17604): attention over fewer places of the picture."""

from typing import Any


class TokenMerging:
    """Tokens that are alike merged before self-attention, as A1111 has tomesd do it, in a UNet's first level.

    Which tokens others are merged into is not drawn, and each row is merged by itself.
    """

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._ratio = 0.0

    def apply(self, ratio: float) -> None:
        """From now on so many of a row's tokens are merged, at most three of four."""
        if ratio == self._ratio:
            return
        import tomesd  # few images ask for it

        if self._ratio:
            tomesd.remove_patch(self._unet)
        if ratio:
            tomesd.apply_patch(self._unet, ratio=ratio, use_rand=False)
        self._ratio = ratio
