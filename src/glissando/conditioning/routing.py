"""Who reads what: decided and checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from torch import nn

from glissando.condition import Size, Sizes, Vector
from glissando.conditioning.base import NOISE, Mechanism, readable
from glissando.errors import UserError

# A mechanism as the configuration gives it: its class and options, with `reads`, but no sizes yet.
Specs = Mapping[str, "partial[Any]"] | list["partial[Any]"]


def named(mechanisms: Specs) -> dict[str, partial[Any]]:
    """Specs by name; those given as a list are numbered."""
    if isinstance(mechanisms, Mapping):
        return dict(mechanisms)
    return {str(number): spec for number, spec in enumerate(mechanisms)}


def assign_noise(mechanisms: Specs) -> str:
    """The name of the one mechanism that reads the noise level.

    It is the one with the lowest `noise_rank` (adaln*, film, prefix, cross_attention,
    channel_concat; the first of equals) among those that name `noise` in `reads`. One reader keeps
    cross-attention's keys and values constant over a clip's steps. Raises UserError if none does.
    """
    specs = named(mechanisms)
    able = [name for name, spec in specs.items() if NOISE in spec.keywords["reads"]]
    if not able:
        raise UserError(
            "the noise level reaches nobody: add `noise` to conditioning.<mechanism>.reads, or "
            f"conditioning=adaln_zero (mechanisms now: {list(specs) or 'none'})"
        )
    return min(able, key=lambda name: cast("type[Mechanism]", specs[name].func).noise_rank)


def routes(
    sizes: Sizes, mechanisms: Specs, noise_dim: int = 1, share_noise: bool = False
) -> dict[str, dict[str, Size]]:
    """For each mechanism the entries it reads, `noise` among them for its one reader.

    Args:
        sizes: the entries that the conditioners make.
        mechanisms: partial mechanisms by name.
        noise_dim: D of the noise level's features.
        share_noise: give `noise` to every mechanism that names it, not to one alone.

    Raises UserError if a mechanism can read nothing or the noise level reaches nobody.
    """
    specs = named(mechanisms)
    reader = assign_noise(specs)
    everything = {**sizes, NOISE: Size(Vector, noise_dim)}
    found: dict[str, dict[str, Size]] = {}
    for name, spec in specs.items():
        wanted = list(spec.keywords["reads"])
        kind = cast("type[Mechanism]", spec.func)
        reads = readable(kind, everything, wanted)
        if not share_noise and name != reader:
            reads = [entry for entry in reads if entry != NOISE]
        if not reads:
            raise UserError(
                f"{name} has nothing to read: it names {wanted}, the conditioners make "
                f"{list(sizes) or 'nothing'} and {reader} reads the noise level; set "
                f"conditioning.{name}.reads=[...] or leave {name} out of conditioning="
            )
        found[name] = {entry: everything[entry] for entry in reads}
    return found


def check_routing(sizes: Sizes, mechanisms: Specs, share_noise: bool = False) -> None:
    """Raises UserError, naming the flag to change, if what is known and what reads it do not fit.

    That is: an entry without a reader, a mechanism with nothing to read, or a noise level that
    reaches nobody. `sizes` are the entries that the conditioners really compute: the halves of a
    text encoder that nobody reads are to be switched off before. `share_noise` as for `routes`.
    """
    found = routes(sizes, mechanisms, share_noise=share_noise)
    read = {entry for entries in found.values() for entry in entries}
    if unread := [name for name in sizes if name not in read]:
        cannot = [
            f"; {name} names {entry} but cannot carry a {sizes[entry].kind.__name__}"
            for name, spec in named(mechanisms).items()
            for entry in unread
            if entry in spec.keywords["reads"]
        ]
        raise UserError(
            f"nobody reads {unread}: add a name to conditioning.<mechanism>.reads, choose another "
            f"mechanism in conditioning= (now {list(found)}), or leave it out of conditioner="
            + "".join(cannot)
        )


def assemble(
    mechanisms: Specs, sizes: Sizes, width: int, noise_dim: int, share_noise: bool = False
) -> nn.ModuleDict:
    """The mechanisms of one network, built for the entries that `routes` gives them."""
    found = routes(sizes, mechanisms, noise_dim, share_noise)
    return nn.ModuleDict(
        {name: spec(found[name], width=width) for name, spec in named(mechanisms).items()}
    )
