"""Makes a CLIPTokenizer whose vocabulary has every word of the captions as one token."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
_WORD_END = "</w>"


def write_tokenizer(folder: Path, words: Iterable[str]) -> None:
    """Write vocab.json, merges.txt and the configuration that ``CLIPTokenizer.from_pretrained`` reads.

    Byte-level BPE as in CLIP: any text can be encoded; a word of `words` (lower case) becomes one token.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = _byte_symbols()
    pairs = merges(words)
    symbols = [*letters, *(letter + _WORD_END for letter in letters), *(a + b for a, b in pairs), START, END]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_LENGTH,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "do_lower_case": True,
        "errors": "replace",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte pair merges, most frequent pair first, until every word is one symbol (Sennrich et al., 2016)."""
    spellings = [[*word[:-1], word[-1] + _WORD_END] for word in sorted(set(words)) if word]
    found = []
    while counts := Counter(pair for symbols in spellings for pair in itertools.pairwise(symbols)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        found.append(best)
        spellings = [_merged(symbols, best) for symbols in spellings]
    return found


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for symbol in symbols:
        if result and (result[-1], symbol) == pair:
            result[-1] += symbol
        else:
            result.append(symbol)
    return result


def _byte_symbols() -> list[str]:
    """One printable character for each byte, as in GPT-2: itself if it is printable, or one from 256 on."""
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
