"""Our DiT with `conditioning=stable_audio` is Stable Audio Open's, weight for weight.

The other implementation is diffusers' (which equals stable-audio-tools' on converted weights).
"""

from __future__ import annotations

from functools import partial

import pytest
import torch

from glissando.condition import Condition, Sequence, Vector
from glissando.conditioning.cross_attention import CrossAttention
from glissando.conditioning.prefix import PooledPrefix
from glissando.networks.dit import DiT

TIMING = ["seconds_start", "seconds_total"]


def converted(theirs: dict, depth: int) -> dict:
    """diffusers' StableAudioDiTModel weights under our names."""

    def both(ours: str, other: str) -> dict:
        return {
            f"{ours}.{leaf}": theirs[f"{other}.{leaf}"]
            for leaf in ("weight", "bias")
            if f"{other}.{leaf}" in theirs
        }

    out = {"fourier.weight": theirs["time_proj.weight"]}
    for layer in (0, 2):
        pooled = "mechanisms.pooled_prefix.embed"
        out |= both(f"{pooled}.noise.{layer}", f"timestep_proj.{layer}")
        out |= both(f"{pooled}.others.{layer}", f"global_proj.{layer}")
        own = f"mechanisms.cross_attention.embed.layers.text.{layer}"  # of text and timing alike
        out |= both(own, f"cross_attention_proj.{layer}")
    for ours, other in (("conv_in", "preprocess_conv"), ("conv_out", "postprocess_conv")):
        out[f"{ours}.weight"] = theirs[f"{other}.weight"][..., None]
    out |= both("project_in", "proj_in") | both("project_out", "proj_out")
    for i in range(depth):
        ours, other = f"blocks.{i}", f"transformer_blocks.{i}"
        cross = f"{ours}.sublayers.cross_attention"
        for branch, norm in ((f"{ours}.attention", 1), (cross, 2), (f"{ours}.feedforward", 3)):
            out[f"{branch}.norm.norm.weight"] = theirs[f"{other}.norm{norm}.weight"]
        own, crossed = ([theirs[f"{other}.attn{n}.to_{x}.weight"] for x in "qkv"] for n in (1, 2))
        out[f"{ours}.attention.inner.query_key_value.weight"] = torch.cat(own)
        out |= both(f"{ours}.attention.inner.out", f"{other}.attn1.to_out.0")
        out[f"{cross}.inner.query.weight"] = crossed[0]
        out[f"{cross}.inner.key_value.weight"] = torch.cat(crossed[1:])
        out |= both(f"{cross}.inner.out", f"{other}.attn2.to_out.0")
        out |= both(f"{ours}.feedforward.inner.up", f"{other}.ff.net.0.proj")
        out |= both(f"{ours}.feedforward.inner.down", f"{other}.ff.net.2")
    return out


@pytest.mark.slow  # importing diffusers takes longer than all other tests here
def test_same_output_as_diffusers_on_the_same_weights():
    diffusers = pytest.importorskip("diffusers")
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    torch.manual_seed(0)
    theirs = diffusers.StableAudioDiTModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        num_layers=2,
        attention_head_dim=64,
        num_attention_heads=2,
        num_key_value_attention_heads=1,
        cross_attention_dim=64,
        time_proj_dim=32,
        global_states_input_dim=2 * 48,
        cross_attention_input_dim=48,
    ).eval()
    with torch.no_grad():  # its norms' gains are one and its 1x1 convolutions random already
        for name, parameter in theirs.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.add_(0.3 * torch.randn_like(parameter))

    cross = partial(
        CrossAttention,
        reads=["text", *TIMING],
        context=64,
        kv_heads=1,
        deep=True,
        shared=True,
        attend_padding=True,
    )
    prefix = partial(PooledPrefix, reads=["noise", *TIMING], bias=False)
    mask = torch.arange(5)[None] < torch.tensor([5, 3])[:, None]
    condition = Condition(
        {
            "text": Sequence(torch.randn(2, 5, 48) * mask[..., None], mask),
            **{name: Vector(torch.randn(2, 48)) for name in TIMING},
        }
    )
    ours = DiT(
        8,
        condition.sizes,
        {"cross_attention": cross, "pooled_prefix": prefix},
        width=128,
        depth=2,
        heads=2,
        expansion=4,
        rotary_dim=32,
        norm_gain=True,
        final_norm=False,
        end_convs=True,
        noise_dim=32,
    ).eval()
    ours.load_state_dict(converted(theirs.state_dict(), depth=2))

    z, noise = torch.randn(2, 8, 1, 16), torch.rand(2)
    timing = [condition[name].value for name in TIMING]
    with torch.no_grad():
        wanted = theirs(
            z[:, :, 0],
            noise,
            encoder_hidden_states=torch.cat(
                [condition["text"].value, *(t[:, None] for t in timing)], 1
            ),
            global_hidden_states=torch.cat(timing, 1)[:, None],
            rotary_embedding=get_1d_rotary_pos_embed(
                32, 16 + 1, use_real=True, repeat_interleave_real=False
            ),
        ).sample
        got = ours(z, noise, condition)[:, :, 0]
    assert wanted.std() > 0.1
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
