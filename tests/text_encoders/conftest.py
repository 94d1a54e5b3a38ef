"""Tiny models with random weights, as folders that transformers loads like published ones:
CLAP and CLIP with their other half."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

WORDS = ("a", "slow", "gentle", "flute", "air", "melody", "trumpet", "march", "piano", "in", "90")


def _tokenizer(template: str):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "<mask>", "</s>", "<unk>"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, vocabulary[token]) for token in special]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def _t5(folder: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=32, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    _tokenizer("$A </s>").save_pretrained(folder)


TEXT = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 3,
}


def _clap(folder: Path) -> None:
    from transformers import ClapConfig, ClapModel

    audio = {
        "spec_size": 32,
        "num_mel_bins": 8,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "hidden_size": 16,
        "window_size": 4,
    }
    config = ClapConfig(text_config=TEXT, audio_config=audio, projection_dim=12)
    ClapModel(config).save_pretrained(folder)
    _tokenizer("<s> $A </s>").save_pretrained(folder)


def _clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 8,
        "patch_size": 4,
    }
    config = CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    _tokenizer("<s> $A </s>").save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> dict[str, Path]:
    """text_encoder group name -> folder of a tiny model of that family."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, build in {"t5": _t5, "clap": _clap, "clip": _clip}.items():
        build(root / name)
    return {folder.name: folder for folder in root.iterdir()}
