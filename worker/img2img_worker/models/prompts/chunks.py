"""A text's tokens in chunks of 75: where they are cut, and how much each is emphasised."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from img2img_shared.errors import Refused
from img2img_worker.models.prompts.attention import BREAK, old_weight, pieces_of
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.textual_inversion import Inversion, TextualInversions
from img2img_worker.models.prompts.tokenizer import ClipTokenizer

#: tokens of a prompt in one chunk; start and end make it 77, all that CLIP sees at once
CHUNK = 75


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One row for CLIP: 77 tokens, and how much each is emphasised."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    #: textual inversions, and at which of the 77 tokens the vectors of each begin
    inserted: tuple[tuple[int, Inversion], ...] = ()

    @property
    def content(self) -> Hashable:
        """What CLIP sees of it."""
        return self.tokens, self.inserted


@dataclass(frozen=True, kw_only=True)
class Chunker:
    """A tokenizer, used as A1111 uses it."""

    #: its padding token fills the chunks
    tokenizer: ClipTokenizer
    #: what texts may name
    inversions: TextualInversions = field(default_factory=TextualInversions)
    #: whether the text model is SD 1.x's, the only one with which A1111's first way of emphasis works
    may_be_old: bool = True

    def chunks(self, text: str, options: PromptOptions = DEFAULTS) -> list[Chunk]:
        """A text's tokens with their weights, cut at 75, at the last near comma, and at BREAK.

        In the old way there is one chunk, and what does not fit into it is lost.

        Raises:
            Refused: the old way, of another text model than SD 1.x has; A1111 fails there.
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
        """A1111's first way: every token with brackets in it changes the weight of all that follow."""
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
        inserted = [each for each in inserted if each[0] <= CHUNK]  # one there takes the end's place
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
        """Up to 75 tokens, filled up to a whole chunk.

        Args:
            inserted: textual inversions, and at which of `tokens` the vectors of each begin.
        """
        start, end, pad = self.tokenizer.start, self.tokenizer.end, self.tokenizer.pad
        free = CHUNK - len(tokens)
        row = [start, *tokens, *[end] * (free + 1)]
        if pad != end:  # OpenCLIP: all behind the first end, were it written in the prompt
            first = row.index(end) + 1
            row[first:] = [pad] * (len(row) - first)
        return Chunk(
            tokens=tuple(row),
            weights=(1.0, *weights, *[1.0] * (free + 1)),
            inserted=tuple((1 + place, inversion) for place, inversion in inserted),
        )


class _Writer:
    """The chunk that is being filled, and those that are full."""

    def __init__(self, chunker: Chunker, backtrack: int) -> None:
        self._chunker = chunker
        #: tokens from a chunk's end in which a comma is near enough to cut there
        self._backtrack = backtrack
        self._comma = chunker.tokenizer.id_of(",</w>")
        self._done: list[Chunk] = []
        self._tokens: list[int] = []
        self._weights: list[float] = []
        self._inserted: list[tuple[int, Inversion]] = []
        self._last_comma = -1

    def make_room(self, token: int) -> None:
        """Ends a chunk that is full before `token` comes: at its last near comma, or where it is."""
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
        """An inversion's vectors stay together: in the next chunk, where they do not fit into this one."""
        if len(self._tokens) + inversion.length > CHUNK:
            self.close()
        self._inserted.append((len(self._tokens), inversion))
        self._tokens += [0] * inversion.length
        self._weights += [weight] * inversion.length

    def close(self, length: int | None = None) -> None:
        """A chunk of the first `length` tokens, or of all; the others begin the next.

        As in A1111, an inversion's vectors do not move with their tokens: they stand in this one's padding.
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
