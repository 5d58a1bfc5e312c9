"""CLIP's tokenizer, from a checkpoint's folder or from the merges that ship with this package; and T5's."""

import html
import json
import lzma
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import ftfy
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from img2img_shared.errors import Refused

START, END = "<|startoftext|>", "<|endoftext|>"
#: the padding with which OpenCLIP's models were trained: token 0
OPEN_CLIP_PAD = "!"
#: tokens of the vocabulary that ships with this package
VOCABULARY = 49_408
#: the pieces of a text, each of which is cut into tokens by itself
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipTokenizer:
    """CLIP's byte-level BPE (Sennrich et al. 2016), as A1111 uses OpenAI's and OpenCLIP's.

    Args:
        vocabulary: each token's id.
        merges: pairs of tokens that become one, the most important first.
        pad: the padding token. OpenCLIP's also means that HTML is unescaped, as its tokenizer does.
        added: tokens that are found in a text as they are, in the order of their ids.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        start: str = START,
        end: str = END,
        pad: str = END,
        added: Iterable[str] = (),
    ) -> None:
        bpe = BPE(
            vocab=dict(vocabulary),
            merges=list(merges),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token=end,
        )
        self._tokenizer = tokenizer = Tokenizer(bpe)
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        special = (start, end) if pad == OPEN_CLIP_PAD else (start, end, pad)
        tokenizer.add_special_tokens([AddedToken(each, normalized=False) for each in special])
        tokenizer.add_tokens([each for each in added if each not in special])
        self._unescapes = pad == OPEN_CLIP_PAD
        self._ids = tokenizer.get_vocab()
        self._tokens = {each: token for token, each in self._ids.items()}
        self.end = self._ids[end]
        self.start, self.pad = self.id_of(start), self.id_of(pad)

    def __len__(self) -> int:
        return len(self._ids)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without start and end. As in CLIP's own tokenizer, ftfy mends it first."""
        mended = [ftfy.fix_text(text) for text in texts]
        if self._unescapes:
            mended = [html.unescape(html.unescape(text)) for text in mended]
        return [found.ids for found in self._tokenizer.encode_batch(mended, add_special_tokens=False)]

    def words(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's tokens of these ids."""
        return [self._tokens[each] for each in ids]

    def id_of(self, token: str) -> int:
        """A token's id; that of the end, if the vocabulary lacks the token."""
        return self._ids.get(token, self.end)


def read_tokenizer(folder: Path, *, pad: str | None = None) -> ClipTokenizer:
    """The CLIPTokenizer that transformers saved in `folder`.

    Args:
        pad: in place of the padding token that is saved there.

    Raises:
        Refused: there is none, or it cannot be read.
    """
    whole, vocabulary = folder / "tokenizer.json", folder / "vocab.json"
    if not (whole.is_file() or vocabulary.is_file()):
        raise Refused("model", str(folder), "put tokenizer.json there, or vocab.json and merges.txt")
    try:
        settings = _json(folder / "special_tokens_map.json") | _json(folder / "tokenizer_config.json")
        start, end, saved_pad = (
            _content(settings.get(f"{which}_token") or default)
            for which, default in (("bos", START), ("eos", END), ("pad", END))
        )
        if whole.is_file():
            saved = _json(whole)
            ids, lines = saved["model"]["vocab"], saved["model"]["merges"]
            added = {each["content"]: each["id"] for each in saved["added_tokens"]}
        else:
            ids, added = _json(vocabulary), _json(folder / "added_tokens.json")
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
            lines = [line for line in lines if line and not line.startswith("#version")]
        merges = [_pair(line) for line in lines]
        special = (start, end, saved_pad)
        others = [each for each in sorted(added, key=added.__getitem__) if each not in special]
        return ClipTokenizer(ids, merges, start=start, end=end, pad=pad or saved_pad, added=others)
    except Exception as error:  # tokenizers raises plain Exception
        raise Refused("model", str(folder), f"it holds no CLIP tokenizer ({error})") from None


def read_t5_tokenizer(folder: Path) -> Any:
    """The T5Tokenizer saved in `folder`.

    Raises:
        Refused: there is none, or it cannot be read.
    """
    from transformers import T5Tokenizer  # imported here: it takes a second, and only T5 needs it

    if not (folder / "tokenizer.json").is_file():
        raise Refused("model", str(folder), "put T5's tokenizer.json there; its vocabulary is needed")
    try:
        return T5Tokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises plain Exception
        raise Refused("model", str(folder), f"it holds no T5 tokenizer ({error})") from None


def clip_tokenizer(*, pad: str = END) -> ClipTokenizer:
    """The tokenizer that every original Stable Diffusion checkpoint was trained with: 49,408 tokens.

    Args:
        pad: what fills up a prompt; OpenCLIP's models were trained with "!" (token 0).
    """
    merges = published_merges()
    return ClipTokenizer(vocabulary_of(merges), merges, pad=pad)


def published_merges() -> list[tuple[str, str]]:
    """The merges of OpenAI's tokenizer, which OpenCLIP's shares."""
    packed = resources.files("img2img_worker.models.prompts").joinpath("clip_merges.txt.xz").read_bytes()
    return [_pair(line) for line in lzma.decompress(packed).decode("utf-8").splitlines()]


def vocabulary_of(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The ids that CLIP gives to tokens: bytes, bytes that end a word, merges, start and end."""
    tokens = [*byte_symbols(), *(symbol + "</w>" for symbol in byte_symbols())]
    tokens += [first + second for first, second in merges]
    return {token: index for index, token in enumerate([*tokens, START, END])}


def byte_symbols() -> list[str]:
    """One printable character for each byte, in CLIP's order: printable bytes come first, unchanged."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def _content(token: str | Mapping[str, str]) -> str:
    """A special token's text: transformers saves it as a string or with a description."""
    return token if isinstance(token, str) else token["content"]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """The two tokens of a merge, saved as ``th e</w>`` or as a pair."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second
