"""Cuts a text's tokens into chunks of 75, and gives each its weight."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from img2img_shared.errors import Refused
from img2img_worker.models.prompts.attention import BREAK, old_weight, pieces_of
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.textual_inversion import Inversion, TextualInversions
from img2img_worker.models.prompts.tokenizer import ClipTokenizer

#: tokens of a prompt in one chunk; with start and end 77, the length of CLIP's input
CHUNK = 75


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One row for CLIP: 77 tokens and their weights."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    #: textual inversions, each with the number of the token, 0 to 76, at which its vectors begin
    inserted: tuple[tuple[int, Inversion], ...] = ()

    @property
    def content(self) -> Hashable:
        """What CLIP's output for it depends on: all but the weights."""
        return self.tokens, self.inserted


@dataclass(frozen=True, kw_only=True)
class Chunker:
    """A tokenizer, used as A1111 uses it."""

    #: its padding token fills the chunks
    tokenizer: ClipTokenizer
    #: the textual inversions that texts may name
    inversions: TextualInversions = field(default_factory=TextualInversions)
    #: whether the text model is SD 1.x's, the only one with which A1111's old emphasis works
    may_be_old: bool = True

    def chunks(self, text: str, options: PromptOptions = DEFAULTS) -> list[Chunk]:
        """A text's tokens with their weights: cut at BREAK, and at 75 tokens or at a comma shortly before.

        With A1111's old emphasis there is one chunk, and what does not fit into it is lost.

        Raises:
            Refused: old emphasis with a text model other than SD 1.x's; A1111 fails there.
        """
        if not options.use_old_emphasis_implementation:
            return self._cut(text, options)
        if not self.may_be_old:
            reason = "this checkpoint does not support it; turn it off"
            raise Refused("use_old_emphasis_implementation", True, reason)
        return [self._old(text, options)]

    def _cut(self, text: str, options: PromptOptions) -> list[Chunk]:
        pieces = pieces_of(text, options.emphasis)
        known = self.inversions.current(options.bundles, options.pinned)
        writer = _Writer(self, options.comma_padding_backtrack)
        for piece, ids in zip(pieces, self.tokenizer.tokenize([text for text, _ in pieces]), strict=True):
            if piece == BREAK:
                writer.close()
                continue
            position = 0
            while position < len(ids):
                writer.make_room(ids[position])
                found = known.at(ids, position)
                if found is None:
                    writer.add(ids[position], piece[1])
                    position += 1
                else:
                    writer.insert(found[0], piece[1])
                    position += found[1]
        return writer.finish()

    def _old(self, text: str, options: PromptOptions) -> Chunk:
        """A1111's old emphasis: every token with brackets in it changes the weight of all that follow."""
        ids = self.tokenize(text)
        tokens: list[int] = []
        weights: list[float] = []
        inserted: list[tuple[int, Inversion]] = []
        weight, position, known = 1.0, 0, self.inversions.current(options.bundles, options.pinned)
        words = self.tokenizer.words(ids)
        while position < len(ids):
            change = 1.0 if options.emphasis == "None" else old_weight(words[position])
            found = known.at(ids, position) if change == 1 else None
            if change != 1:
                weight *= change
            elif found is None:
                tokens.append(ids[position])
                weights.append(weight)
            else:
                inserted.append((len(tokens), found[0]))
                tokens += [0] * found[0].length
                weights += [weight] * found[0].length
            position += found[1] if found else 1
        inserted = [each for each in inserted if each[0] <= CHUNK]  # at CHUNK, it replaces the end token
        return self.chunk(tokens[:CHUNK], weights[:CHUNK], inserted)

    def tokenize(self, text: str) -> list[int]:
        """A text's tokens, without start and end."""
        return self.tokenizer.tokenize([text])[0]

    def chunk(
        self,
        tokens: Sequence[int] = (),
        weights: Sequence[float] = (),
        inserted: Sequence[tuple[int, Inversion]] = (),
    ) -> Chunk:
        """A chunk of up to 75 tokens and padding.

        Args:
            inserted: textual inversions, each with the number of the token at which its vectors begin.
        """
        start, end, pad = self.tokenizer.start, self.tokenizer.end, self.tokenizer.pad
        free = CHUNK - len(tokens)
        row = [start, *tokens, *[end] * (free + 1)]
        if pad != end:  # OpenCLIP: pads all after the first end, even one that the prompt itself contains
            first = row.index(end) + 1
            row[first:] = [pad] * (len(row) - first)
        return Chunk(
            tokens=tuple(row),
            weights=(1.0, *weights, *[1.0] * (free + 1)),
            inserted=tuple((1 + place, inversion) for place, inversion in inserted),
        )


class _Writer:
    """Fills chunks one after the other."""

    def __init__(self, chunker: Chunker, backtrack: int) -> None:
        self._chunker = chunker
        #: how many tokens before a chunk's end a comma may be for the cut to be there
        self._backtrack = backtrack
        self._comma = chunker.tokenizer.id_of(",</w>")
        self._done: list[Chunk] = []
        self._tokens: list[int] = []
        self._weights: list[float] = []
        self._inserted: list[tuple[int, Inversion]] = []
        self._last_comma = -1

    def make_room(self, token: int) -> None:
        """Close a full chunk before `token` is added: after its last comma, if it is near, or at its end."""
        if token == self._comma:
            self._last_comma = len(self._tokens)
        elif self._backtrack and len(self._tokens) == CHUNK and self._last_comma >= CHUNK - self._backtrack:
            self.close(self._last_comma + 1)
        if len(self._tokens) == CHUNK:
            self.close()

    def add(self, token: int, weight: float) -> None:
        self._tokens.append(token)
        self._weights.append(weight)

    def insert(self, inversion: Inversion, weight: float) -> None:
        """Add an inversion's vectors, all of them to the next chunk if they do not fit into this one."""
        if len(self._tokens) + inversion.length > CHUNK:
            self.close()
        self._inserted.append((len(self._tokens), inversion))
        self._tokens += [0] * inversion.length
        self._weights += [weight] * inversion.length

    def close(self, length: int | None = None) -> None:
        """End the chunk after `length` tokens, or after all; the others begin the next.

        As in A1111, the vectors of an inversion among those stay behind, in this chunk's padding.
        """
        length = len(self._tokens) if length is None else length
        self._done.append(self._chunker.chunk(self._tokens[:length], self._weights[:length], self._inserted))
        self._inserted = []
        del self._tokens[:length], self._weights[:length]
        self._last_comma = -1

    def finish(self) -> list[Chunk]:
        """All chunks, at least one."""
        if self._tokens or not self._done:
            self.close()
        return self._done
