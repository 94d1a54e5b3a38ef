"""How large a network is, part by part, and what one clip costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from glissando.condition import Condition, Entry, Local, Sequence, Size, Sizes, Vector
from glissando.networks.autoencoder import MapCodec

META = torch.device("meta")


class Summary(NamedTuple):
    """What a person is told of a network, and the operations of one row forward."""

    text: str
    forward: int


def network_summary(
    network: nn.Module, shape: tuple[int, int, int], sizes: Sizes, tokens: int = 32
) -> Summary:
    """A table of the parameters of each part, and the floating-point operations of one call.

    Args:
        network: called as ``network(z, noise, condition)``.
        shape: (C, F, T) of one clip's latent.
        sizes: the condition's entries, as the network was built for them.
        tokens: how many tokens each sequence in the condition has.
    """
    work = flops(network, shape, sizes, tokens)
    clip = " x ".join(map(str, shape))
    return Summary(f"{table(network)}\none clip of {clip} forward: {_giga(work)}", work)


def codec_summary(network: MapCodec, rows: int, columns: int, length: int) -> Summary:
    """A table of the parameters of each part, and the operations of coding ``length`` samples,
    which are a map of ``rows`` x ``columns``."""
    x = torch.empty(1, network.map_channels, rows, columns, device=META)
    z = torch.empty(1, network.channels, *network.size(rows, columns), device=META)
    there = _counted(network, "encode_map", x)
    back = _counted(network, "decode_map", z, rows, columns)
    text = (
        f"{table(network)}\none crop of {length} samples: {_giga(there, note='')} to encode, "
        f"{_giga(back)} to decode"
    )
    return Summary(text, there + back)


def generator_summary(network: nn.Module, freqs: int, hop: int, frames: int) -> Summary:
    """A table of the parameters of each part, and the operations of ``frames`` frames of ``freqs``.

    ``hop`` is the samples given for each frame.
    """
    work = _counted(network, "forward", torch.empty(1, freqs, frames, device=META))
    return Summary(f"{table(network)}\n{frames} frames of {hop} samples: {_giga(work)}", work)


def table(network: nn.Module) -> str:
    """The parameters of each part and their sum, a line each."""
    counts = {name: parameters(part) for name, part in network.named_children()}
    own = parameters(network) - sum(counts.values())
    rows = {**counts, **({"(own)": own} if own else {}), "all": parameters(network)}
    wide = max(map(len, rows))
    lines = [f"{name:<{wide}}  {count:>13,}" for name, count in rows.items() if count]
    return "\n".join([f"{'part':<{wide}}  {'parameters':>13}", *lines])


def _giga(work: int, note: str = " (a product and sum are 2)") -> str:
    return f"{work / 1e9:.3g} GFLOP{note}"


def parameters(network: nn.Module) -> int:
    """How many numbers it learns; shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops(network: nn.Module, shape: tuple[int, int, int], sizes: Sizes, tokens: int = 32) -> int:
    """Floating-point operations of one clip's forward pass: products, convolutions, attention.

    Counted on the meta device: nothing is computed and the network stays as it is. Arguments as
    for ``network_summary``.
    """
    condition = Condition({name: _entry(size, shape[2], tokens) for name, size in sizes.items()})
    z, noise = torch.empty(1, *shape, device=META), torch.empty(1, device=META)
    return _counted(network, "forward", z, noise, condition)


def kept_bytes(
    network: nn.Module, shape: tuple[int, int, int], sizes: Sizes, tokens: int = 32
) -> int:
    """Bytes that one clip's forward pass keeps for the backward pass, in float32, weights aside.

    On the meta device, as autograd asks for them: what two operations keep counts once, and what
    checkpointing computes again does not count. Arguments as for ``network_summary``.
    """
    condition = Condition({name: _entry(size, shape[2], tokens) for name, size in sizes.items()})
    call = _Call(network, "forward")
    weights = {name: torch.empty_like(p, device=META) for name, p in call.named_parameters()}
    buffers = {name: torch.empty_like(b, device=META) for name, b in call.named_buffers()}
    for weight in weights.values():
        weight.requires_grad_(weight.is_floating_point())
    known = {weight.untyped_storage()._cdata for weight in [*weights.values(), *buffers.values()]}
    kept: dict[int, tuple[Tensor, int]] = {}  # holds what it has seen, so that no place is reused

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    z, noise = torch.empty(1, *shape, device=META), torch.empty(1, device=META)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = functional_call(call, {**weights, **buffers}, (z, noise, condition))
    del out
    return sum(size for _, size in kept.values())


class _Call(nn.Module):
    """A method of a network as a module's forward, which is what ``functional_call`` takes."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *arguments: Any) -> Any:
        return getattr(self.network, self.method)(*arguments)


def _counted(network: nn.Module, method: str, *arguments: Any) -> int:
    """The operations of a method, with weights and arguments that hold no numbers."""
    call = _Call(network, method)
    weights: dict[str, Tensor] = {
        name: torch.empty_like(tensor, device=META)
        for name, tensor in [*call.named_parameters(), *call.named_buffers()]
    }
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        functional_call(call, weights, arguments)
    return counter.get_total_flops()


def _entry(size: Size, frames: int, tokens: int) -> Entry:
    if size.kind is Vector:
        return Vector(torch.empty(1, size.dim, device=META))
    if size.kind is Local:
        return Local(torch.empty(1, size.dim, 1, frames, device=META))
    real = torch.ones(1, tokens, dtype=torch.bool, device=META)
    return Sequence(torch.empty(1, tokens, size.dim, device=META), real)
