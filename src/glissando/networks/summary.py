"""How large a network is, part by part, and what one clip costs."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from glissando.condition import Condition, Entry, Local, Sequence, Size, Sizes, Vector


def summary(network: nn.Module, shape: tuple[int, int, int], sizes: Sizes, tokens: int = 32) -> str:
    """A table of the parameters of each part, and the floating-point operations of one call.

    Args:
        network: called as ``network(z, noise, condition)``.
        shape: (C, F, T) of one clip's latent.
        sizes: the condition's entries, as the network was built for them.
        tokens: how many tokens each sequence in the condition has.
    """
    counts = {name: parameters(part) for name, part in network.named_children()}
    own = parameters(network) - sum(counts.values())
    rows = {**counts, **({"(own)": own} if own else {}), "all": parameters(network)}
    wide = max(map(len, rows))
    lines = [f"{name:<{wide}}  {count:>13,}" for name, count in rows.items() if count]
    work = flops(network, shape, sizes, tokens)
    clip = " x ".join(map(str, shape))
    return "\n".join(
        [
            f"{'part':<{wide}}  {'parameters':>13}",
            *lines,
            f"one clip of {clip} forward: {work / 1e9:.3g} GFLOP (a product and sum are 2)",
        ]
    )


def parameters(network: nn.Module) -> int:
    """How many numbers it learns; shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops(network: nn.Module, shape: tuple[int, int, int], sizes: Sizes, tokens: int = 32) -> int:
    """Floating-point operations of one clip's forward pass: products, convolutions, attention.

    Counted on the meta device: nothing is computed and the network stays as it is. Arguments as
    for ``summary``.
    """
    where = torch.device("meta")
    weights = {
        name: torch.empty_like(tensor, device=where)
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]
    }
    condition = Condition(
        {name: _entry(size, shape[2], tokens, where) for name, size in sizes.items()}
    )
    z, noise = torch.empty(1, *shape, device=where), torch.empty(1, device=where)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        functional_call(network, weights, (z, noise, condition))
    return counter.get_total_flops()


def _entry(size: Size, frames: int, tokens: int, where: torch.device) -> Entry:
    if size.kind is Vector:
        return Vector(torch.empty(1, size.dim, device=where))
    if size.kind is Local:
        return Local(torch.empty(1, size.dim, 1, frames, device=where))
    real = torch.ones(1, tokens, dtype=torch.bool, device=where)
    return Sequence(torch.empty(1, tokens, size.dim, device=where), real)
