"""T5's encoder, as SD 3 and Flux use it: a fixed number of tokens, no mask, A1111's emphasis if wanted."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.models.prompts.attention import BREAK, pieces_of
from img2img_worker.models.prompts.text_encoder import check_finite, emphasise
from img2img_worker.models.steps import run_now
from img2img_worker.models.transfer import to_device


@dataclass(frozen=True, kw_only=True)
class T5:
    """A T5 encoder and its tokenizer."""

    #: transformers' T5Tokenizer
    tokenizer: Any
    #: transformers' T5EncoderModel
    model: Any

    @torch.inference_mode()
    def encode(self, text: str, length: int, *, emphasis: str) -> Tensor:
        """A text's embedding, float32 [length, d]; a longer text is cut off.

        The text is read as A1111's SD 3 reads it: brackets and weights are taken out, what they enclose is
        tokenized by itself, and BREAK is left out. Without brackets that is what diffusers reads.

        Args:
            emphasis: A1111's option of that name.

        Raises:
            Refused: weights beyond what floats hold.
            WorkerError: the network's answer is not finite.
        """
        tokens, weights = self._tokens(text, length, emphasis)
        answer = self.model(to_device(torch.tensor([tokens]), self.model.device))
        run_now(check_finite([answer.last_hidden_state]))
        context = emphasise(answer.last_hidden_state.float(), torch.tensor([weights]), emphasis)
        if not context.isfinite().all():
            raise Refused("prompt", text, "its weights make the embedding infinite; use smaller ones")
        return context[0]

    def _tokens(self, text: str, length: int, emphasis: str) -> tuple[list[int], list[float]]:
        pieces = [piece for piece in pieces_of(text, emphasis) if piece != BREAK]
        tokens: list[int] = []
        weights: list[float] = []
        for piece, weight in pieces:
            ids = self.tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
            tokens += ids
            weights += [weight] * len(ids)
        free = max(length - 1 - len(tokens), 0)
        tokens = [*tokens[: length - 1], self.tokenizer.eos_token_id, *[self.tokenizer.pad_token_id] * free]
        return tokens, [*weights[: length - 1], *[1.0] * (free + 1)]
