"""Encodes texts with CLIP, with emphasis and the layer that ``clip_skip`` chooses."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from img2img_shared.errors import Refused, WorkerError
from img2img_worker.models.prompts.chunks import CHUNK, Chunk, Chunker
from img2img_worker.models.prompts.clip_text import ClipText, TextStates
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.textual_inversion import Inversion, TextualInversions
from img2img_worker.models.prompts.tokenizer import ClipTokenizer
from img2img_worker.models.steps import Steps, read_flag
from img2img_worker.models.transfer import to_device

#: most chunks of all texts of one schedule together, which limits what a prompt with many edits costs; any
#: two texts that a job can hold fit
MOST_CHUNKS = 2000


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An encoded text, as the denoiser gets it."""

    #: float32 [77 · chunks, d]
    context: Tensor
    #: the first chunk's projection, float32 [p]; None: the text model has none
    pooled: Tensor | None = None
    #: whether it is a negative prompt, for which SDXL's refiner gets another aesthetic score
    is_negative: bool = False


#: for each chunk of B texts embeddings float32 [B, 77, d] and weights [B, 77]; each text's pooled one [p]
_Columns = tuple[list[tuple[Tensor, Tensor]], list[Tensor | None]]


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """A CLIP text model and its tokenizer, used as A1111 uses them.

    SD 1.x: the defaults. SD 2.x: ``layer=1``, since its checkpoints end with the right layer, and A1111's
    ``clip_skip`` has no effect on them. SDXL: both encoders with ``layer=2, final_norm=False``.
    """

    #: its padding token fills the chunks
    tokenizer: ClipTokenizer
    model: ClipText
    #: the layer whose output is taken, counted from the end (1: the last); None: `clip_skip` chooses it
    layer: int | None = None
    #: whether, with ``sdxl_clip_l_skip``, `clip_skip` chooses it in spite of `layer`
    may_skip: bool = False
    #: whether the final layer norm follows
    final_norm: bool = True
    #: the textual inversions that prompts may name
    inversions: TextualInversions = field(default_factory=TextualInversions)
    #: the index of this encoder's vectors in an inversion
    part: int = 0

    def encode(self, texts: Sequence[str], options: PromptOptions = DEFAULTS) -> Steps[list[Encoded]]:
        """Encode the texts of one schedule; shorter ones are padded with empty chunks.

        Weights multiply the embeddings, then the mean is restored: over all of `texts`, chunk by chunk, as
        in A1111, which encodes a prompt's edits as one batch. CLIP itself runs on one chunk at a time, in a
        step of its own, so that a text's bits do not depend on the others.

        Raises:
            Refused: `clip_skip` is beyond the model's layers, there are too many long texts, or weights are
                beyond what floats hold.
            WorkerError: the network's answer is not finite.
        """
        columns, pooled = yield from self.columns(texts, options)
        yield from check_finite([context for context, _ in columns])
        emphasised = [emphasise(*column, options.emphasis) for column in columns]
        return (yield from _join(texts, emphasised, pooled))

    def columns(self, texts: Sequence[str], options: PromptOptions = DEFAULTS) -> Steps[_Columns]:
        """The embeddings and weights of `encode`, before the weights are applied.

        Raises:
            Refused: `clip_skip` is beyond the model's layers, or there are too many long texts.
        """
        chunked: list[list[Chunk]] = []
        for text in texts:
            chunked.append(self.chunks(text, options))
            if len(texts) * len(chunked[-1]) > MOST_CHUNKS:
                fits = CHUNK * (MOST_CHUNKS // len(texts))
                reason = f"edit fewer texts, or use at most {fits} tokens in each of these {len(texts)}"
                raise Refused("prompt", text, reason)
        longest = max(map(len, chunked))
        padded = [chunks + [self._chunker.chunk()] * (longest - len(chunks)) for chunks in chunked]
        seen: dict[object, Encoded] = {}
        for chunk in (chunk for chunks in padded for chunk in chunks):
            if chunk.content not in seen:
                seen[chunk.content] = self._embed(chunk, options)
                yield
        columns = [
            (
                torch.stack([seen[chunk.content].context for chunk in column]),
                torch.tensor([chunk.weights for chunk in column]),
            )
            for column in zip(*padded, strict=True)
        ]
        return columns, [seen[chunks[0].content].pooled for chunks in padded]

    def length(self, texts: Sequence[str], options: PromptOptions = DEFAULTS) -> int:
        """Tokens of each context that `encode` makes of texts. Thread-safe: it runs no model."""
        return (CHUNK + 2) * max(len(self.chunks(text, options)) for text in texts)

    @torch.inference_mode()
    def pooled(self, text: str, options: PromptOptions = DEFAULTS) -> Tensor:
        """The first chunk's last state at its end token, not projected: float32 [d] (Flux)."""
        tokens = self.chunks(text, options)[0].tokens
        states: TextStates = self.model(to_device(torch.tensor([tokens]), self.model.device))
        return states.pooled[0].float()

    def chunks(self, text: str, options: PromptOptions = DEFAULTS) -> list[Chunk]:
        """As `Chunker.chunks`."""
        return self._chunker.chunks(text, options)

    def tokenize(self, text: str) -> list[int]:
        """A text's tokens, without start and end."""
        return self._chunker.tokenize(text)

    @property
    def _chunker(self) -> Chunker:
        return Chunker(tokenizer=self.tokenizer, inversions=self.inversions, may_be_old=self.layer is None)

    @torch.inference_mode()
    def _embed(self, chunk: Chunk, options: PromptOptions) -> Encoded:
        """CLIP's output for one chunk, without emphasis: context float32 [77, d]."""
        tokens = to_device(torch.tensor([chunk.tokens]), self.model.device)
        states: TextStates = self.model(tokens, partial(self._insert, chunk.inserted))
        skips = self.may_skip and options.sdxl_clip_l_skip
        layer = options.clip_skip if self.layer is None or skips else self.layer
        if layer > len(states.hidden):
            raise Refused("clip_skip", layer, f"this checkpoint takes 1 to {len(states.hidden)}")
        context = states.hidden[-layer]
        if self.final_norm:
            context = self.model.final_layer_norm(context)
        pooled = states.projected
        return Encoded(context=context[0].float(), pooled=None if pooled is None else pooled[0].float())

    def _insert(self, inserted: Sequence[tuple[int, Inversion]], embeddings: Tensor) -> None:
        """Write the vectors of textual inversions into token embeddings [1, 77, d]."""
        for place, inversion in inserted:
            vectors = inversion.vectors[self.part][: embeddings.shape[1] - place]
            embeddings[0, place : place + len(vectors)] = vectors.to(embeddings)


def encode(
    encoders: Sequence[TextEncoder],
    texts: Sequence[str],
    *,
    options: PromptOptions = DEFAULTS,
    negative: bool = False,
) -> Steps[list[Encoded]]:
    """Encode a schedule's texts with all of a family's encoders: contexts concatenated, pooled by the last.

    Args:
        negative: whether this is a negative prompt; SDXL, whose text models project, gets zeros if all of its
            texts are empty.

    Raises:
        Refused: as `TextEncoder.encode`.
    """
    answers: list[list[Encoded]] = []
    for encoder in encoders:
        answers += [(yield from encoder.encode(texts, options))]
    rows = [
        Encoded(
            context=torch.cat([part.context for part in parts], dim=-1),
            pooled=parts[-1].pooled,
            is_negative=negative,
        )
        for parts in zip(*answers, strict=True)
    ]
    if negative and not any(texts):
        return [row if row.pooled is None else _zero(row, row.pooled) for row in rows]
    return rows


def encode_side_by_side(
    encoders: Sequence[TextEncoder], texts: Sequence[str], options: PromptOptions = DEFAULTS
) -> Steps[list[Encoded]]:
    """Encode a schedule's texts for SD 3: contexts concatenated, and pooled embeddings, too.

    Emphasis restores the mean over both encoders together: in A1111's SD 3 they are one text model.

    Raises:
        Refused: as `TextEncoder.encode`.
    """
    answers: list[_Columns] = []
    for encoder in encoders:
        answers += [(yield from encoder.columns(texts, options))]
    yield from check_finite([context for columns, _ in answers for context, _ in columns])
    columns = [
        emphasise(torch.cat([context for context, _ in parts], dim=-1), parts[0][1], options.emphasis)
        for parts in zip(*(columns for columns, _ in answers), strict=True)
    ]
    pooled = [
        torch.cat([part for part in parts if part is not None])
        for parts in zip(*(pooled for _, pooled in answers), strict=True)
    ]
    return (yield from _join(texts, columns, pooled))


def check_finite(contexts: Sequence[Tensor]) -> Steps[None]:
    """
    Args:
        contexts: a text encoder's outputs, before emphasis.

    Raises:
        WorkerError: one of them is not finite.
    """
    if not (yield from read_flag(torch.stack([context.isfinite().all() for context in contexts]).all())):
        raise WorkerError(
            "the prompt's embedding is not finite: the text encoder overflowed, a LoRA is too strong for it, "
            "or its weights are damaged; one that overflows in float16 may work in bfloat16 or float32"
        )


def emphasise(context: Tensor, weights: Tensor, emphasis: str = "Original") -> Tensor:
    """Embeddings [B, n, d] times weights [B, n]; A1111's `emphasis` "Original" also restores their mean."""
    if emphasis == "Ignore" or bool((weights == 1).all()):
        return context
    weighted = context * to_device(weights, context.device)[..., None]
    if emphasis == "No norm":
        return weighted
    mean = weighted.mean()
    return weighted * torch.where(mean == 0, 1, context.mean() / mean)  # 0: behind an untrained norm


def _join(
    texts: Sequence[str], columns: list[Tensor], pooled: Sequence[Tensor | None]
) -> Steps[list[Encoded]]:
    context = torch.cat(columns, dim=1)
    if not (yield from read_flag(context.isfinite().all())):
        text = next(text for text, row in zip(texts, context, strict=True) if not row.isfinite().all())
        raise Refused("prompt", text, "its weights make the embedding infinite; use smaller ones")
    return [Encoded(context=row, pooled=pool) for row, pool in zip(context, pooled, strict=True)]


def _zero(row: Encoded, pooled: Tensor) -> Encoded:
    return replace(row, context=torch.zeros_like(row.context), pooled=torch.zeros_like(pooled))
