"""CLIP's tokenizer: from a checkpoint's own folder, or from the merges that ship with this package; T5's."""

import lzma
from importlib import resources
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer, T5Tokenizer

from img2img_shared.errors import Refused

START, END = "<|startoftext|>", "<|endoftext|>"
#: tokens of the vocabulary that ships with this package
VOCABULARY = 49_408


def read_tokenizer(folder: Path) -> Any:
    """The CLIPTokenizer saved in `folder`.

    Raises:
        Refused: nothing there that is one.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise Refused("model", str(folder), "put tokenizer.json there, or vocab.json and merges.txt")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises plain Exception
        raise Refused("model", str(folder), f"it holds no CLIP tokenizer ({error})") from None


def read_t5_tokenizer(folder: Path) -> Any:
    """The T5Tokenizer saved in `folder`.

    Raises:
        Refused: nothing there that is one.
    """
    if not (folder / "tokenizer.json").is_file():
        raise Refused("model", str(folder), "put T5's tokenizer.json there; its vocabulary is needed")
    try:
        return T5Tokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises plain Exception
        raise Refused("model", str(folder), f"it holds no T5 tokenizer ({error})") from None


def clip_tokenizer(*, pad: str = END) -> Any:
    """The tokenizer that every original Stable Diffusion checkpoint was trained with: 49,408 tokens.

    Args:
        pad: what fills up a prompt; OpenCLIP's models were trained with "!" (token 0).
    """
    packed = resources.files("img2img_worker.models.prompts").joinpath("clip_merges.txt.xz").read_bytes()
    merges = lzma.decompress(packed).decode("utf-8").splitlines()
    return bpe_tokenizer(merges, pad=pad)


def bpe_tokenizer(merges: list[str], *, pad: str = END) -> Any:
    """A CLIPTokenizer of these merges ("th e</w>"): bytes, bytes that end a word, merges, start and end."""
    vocabulary = [*byte_symbols(), *(symbol + "</w>" for symbol in byte_symbols())]
    vocabulary += [merge.replace(" ", "") for merge in merges]
    vocabulary += [START, END]
    ids = {token: index for index, token in enumerate(vocabulary)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    return CLIPTokenizer(vocab=ids, merges=pairs, pad_token=pad, model_max_length=77)


def byte_symbols() -> list[str]:
    """One printable character for each byte, in CLIP's order: first the printable bytes, as they are."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
