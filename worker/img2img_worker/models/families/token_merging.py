"""Token merging (Bolya and Hoffman 2023, arXiv:2303.17604): self-attention over fewer tokens."""

from typing import Any


class TokenMerging:
    """Merges similar tokens before self-attention in a UNet's first level, by tomesd, as A1111 does.

    The tokens that others are merged into are not chosen at random, and each row is merged by itself.
    """

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._ratio = 0.0

    def apply(self, ratio: float) -> None:
        """Merge this share of a row's tokens from now on, at most three of four; 0: none."""
        if ratio == self._ratio:
            return
        import tomesd  # few images ask for it

        if self._ratio:
            tomesd.remove_patch(self._unet)
        if ratio:
            tomesd.apply_patch(self._unet, ratio=ratio, use_rand=False)
        self._ratio = ratio
