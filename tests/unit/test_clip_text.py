"""CLIP's text network and tokenizer, against transformers' and OpenCLIP's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from img2img_shared.errors import Refused
from img2img_worker.models.prompts.clip_text import ClipText, ClipTextConfig
from img2img_worker.models.prompts.tokenizer import (
    OPEN_CLIP_PAD,
    clip_tokenizer,
    published_merges,
    read_tokenizer,
)
from tests.checkpoints import MERGES, TOKENS, clip, clip_text, clip_tokenizer_of, pipeline_tokenizer

TEXTS = [
    "hello! x !! y, it's 1984",
    "a <|endoftext|>b",
    "ÄO\u0308 \x00 日本  zwölf\n\tBoxkämpfer",
    "(masterpiece:1.2) 🦊",
    "",
]


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos", [2, TOKENS - 1])
def test_every_state_is_transformers_to_the_bit(act: str, eos: int) -> None:
    model: Any = clip(1, hidden_act=act, projects=True, heads=2)
    model.text_model.eos_token_id = model.config.eos_token_id = eos
    tokens = torch.randint(3, TOKENS - 1, (2, 77), generator=torch.Generator().manual_seed(1))
    tokens[0, 40:] = tokens[1, 76] = TOKENS - 1
    with torch.inference_mode():
        theirs, ours = model.eval()(tokens, output_hidden_states=True), clip_text(model)(tokens)
    assert all(map(torch.equal, theirs.hidden_states, ours.hidden))
    assert len(theirs.hidden_states) == len(ours.hidden)
    assert torch.equal(theirs.text_embeds, ours.projected)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [({"hidden_act": "relu"}, "hidden_act"), ({"num_attention_heads": 7}, "hidden_size")],
)
def test_what_is_no_clip_is_refused(setting: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ClipText(ClipTextConfig.of({"hidden_size": 64, **setting}), projects=False)


def test_openais_tokens_are_transformers() -> None:
    theirs = pipeline_tokenizer(published_merges())
    ours = clip_tokenizer()
    for text, found in zip(TEXTS, ours.tokenize(TEXTS), strict=True):
        assert found == theirs(text.replace("\x00", ""), add_special_tokens=False)["input_ids"]
    assert ours.words([320, 49407]) == ["a</w>", "<|endoftext|>"]
    assert ours.id_of("nothing like it") == ours.end


def test_openclips_tokens_are_openclips() -> None:
    ours = clip_tokenizer(pad=OPEN_CLIP_PAD)
    # as open_clip 2.20 answers, which knows what fills up a text as an exclamation mark like any other
    assert ours.tokenize(["hello! x !! y", "fish &amp;amp; chips &lt;3"]) == [
        [3306, 256, 343, 748, 344],
        [2759, 261, 8855, 283, 274],
    ]


@pytest.mark.parametrize("pad", ["<|endoftext|>", OPEN_CLIP_PAD])
def test_a_folder_says_which_tokens_it_has(pad: str, tmp_path: Path) -> None:
    saved = pipeline_tokenizer(MERGES, pad=pad)
    saved.add_tokens(["<dog>", "<cat>"])
    saved.save_pretrained(tmp_path)
    text = "the <cat> in the <dog>"
    read = read_tokenizer(tmp_path)
    assert read.tokenize([text])[0] == saved(text, add_special_tokens=False)["input_ids"]
    assert (read.start, read.end, read.pad) == (
        saved.bos_token_id,
        saved.eos_token_id,
        saved.convert_tokens_to_ids(pad),
    )
    assert read_tokenizer(tmp_path, pad="!").pad == 0


def test_a_folder_of_older_files_is_read_too(tmp_path: Path) -> None:
    merges = ["#version: 0.2", *(" ".join(pair) for pair in MERGES), ""]
    (tmp_path / "merges.txt").write_text("\n".join(merges))
    vocabulary = pipeline_tokenizer(MERGES).get_vocab()
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<sks>": TOKENS}))
    described = {"content": "!", "special": True}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": described}))
    read = read_tokenizer(tmp_path)
    assert read.tokenize(["the <sks> cat"]) == [
        [clip_tokenizer_of().id_of("the</w>"), TOKENS, clip_tokenizer_of().id_of("cat</w>")]
    ]
    assert read.pad == 0


@pytest.mark.parametrize("content", ["{}", "[", '{"model": {"vocab": {}, "merges": ["a"]}}'])
def test_a_folder_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(Refused, match="holds no CLIP tokenizer"):
        read_tokenizer(tmp_path)
