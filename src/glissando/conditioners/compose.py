"""Several conditioners as one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from glissando.condition import Condition, Sizes
from glissando.conditioners.base import Attributes, Conditioner, device_of
from glissando.conditioners.control import ControlConditioner
from glissando.controls import Control


class Conditioners(nn.Module):
    """Makes one ``Condition`` of all that its conditioners make.

    Like ``dict``, it takes a mapping, a list, or keywords (which is what a yaml gives, so that a
    flag reads ``conditioner.text.unconditional=learned``). The keys only label the parts; the
    entries have the names that the conditioners give them. Without any it is the unconditional
    model's.

    Raises:
        ValueError: two conditioners make an entry of one name.
        TypeError: something is not a ``Conditioner``.
    """

    def __init__(
        self,
        conditioners: Mapping[str, Conditioner] | Sequence[Conditioner] = (),
        /,
        **named: Conditioner,
    ) -> None:
        super().__init__()
        if not isinstance(conditioners, Mapping):
            conditioners = {next(iter(each.sizes)): each for each in conditioners}
        for key, part in {**conditioners, **named}.items():
            if not isinstance(part, Conditioner):
                raise TypeError(f"{key} is a {type(part).__name__}, not a Conditioner")
        self.parts = nn.ModuleDict({**conditioners, **named})
        names = [name for part in self._each() for name in part.sizes]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"entries made twice: {double}; give each conditioner its own name")

    def forward(self, attributes: Sequence[Attributes], frames: int | None = None) -> Condition:
        """Attributes of B clips -> Condition with B rows; a missing attribute is its null.

        Args:
            attributes: one mapping a clip, e.g. ``{"caption": "…", "seconds_total": 6.0}``.
            frames: latent length T, for time-aligned conditioners.
        """
        condition = Condition()
        for part in self._each():
            condition = condition.merge(part(attributes, frames))
        return condition

    @property
    def sizes(self) -> Sizes:
        return {name: size for part in self._each() for name, size in part.sizes.items()}

    def null(
        self, n: int, negative: Sequence[str | None] | None = None, like: Condition | None = None
    ) -> Condition:
        """The null condition, n rows with the same entries, for ``Condition.where`` and ``.cat``.

        Args:
            negative: n negative prompts; a text's null is replaced by them (None or blank: not).
            like: the condition whose null it is; entries that are *kept* are taken from it.
        """
        condition = Condition()
        for part in self._each():
            condition = condition.merge(part.null(n, negative, like))
        return condition

    def dropout(
        self,
        condition: Condition,
        p: float,
        generator: torch.Generator | None = None,
        groups: Mapping[str, float] | None = None,
    ) -> Condition:
        """The condition with some rows replaced by the null, for classifier-free guidance.

        Args:
            p: probability with which a row loses everything at once (Ho & Salimans 2022).
            generator: of the draws.
            groups: key of a conditioner -> probability with which its entries, all of them
                together, are lost besides, independently of the others.

        Raises:
            ValueError: a group is not the key of a conditioner.
        """
        groups = groups or {}
        if unknown := sorted(set(groups) - set(self.parts)):
            raise ValueError(f"dropout groups {unknown} are not among {list(self.parts)}")
        if condition.batch is None or (p <= 0 and not any(groups.values())):
            return condition
        n, device = condition.batch, device_of(condition)

        def survivors(probability: float) -> Tensor:
            where = generator.device if generator is not None else device
            return torch.rand(n, generator=generator, device=where).to(device) >= probability

        joint = survivors(p)
        keep = {}
        for key, part in zip(self.parts, self._each(), strict=True):
            own = joint & survivors(groups[key]) if key in groups else joint
            keep.update({name: own for name in part.sizes if name in condition})
        return condition.where(keep, self.null(n, like=condition))

    def only(self, names: Collection[str]) -> Conditioners:
        """Stop making entries outside ``names``, in place; returns self.

        A conditioner none of whose entries is wanted is removed, parameters and all; a text
        encoder's unwanted half is neither computed nor stored.
        """
        for key, part in list(zip(self.parts, self._each(), strict=True)):
            if set(part.sizes) & set(names):
                part.only(names)
            else:
                del self.parts[key]
        return self

    def warm(self, attributes: Iterable[Attributes]) -> None:
        """Encode the distinct captions of a data set that are not cached yet, with a progress bar.

        Among several processes, call it on one first: the others then only read.
        """
        known = list(attributes)
        for part in self._each():
            part.warm(known)

    def align(self, latent_rate: float, lead: float = 0.0) -> Conditioners:
        """Tell time-aligned conditioners where the latent's frames lie; returns self."""
        for part in self._each():
            part.align(latent_rate, lead)
        return self

    @property
    def controls(self) -> dict[str, Control]:
        """By attribute: the curves that are computed from a clip's audio."""
        return {
            part.attribute: part.control
            for part in self._each()
            if isinstance(part, ControlConditioner)
        }

    def _each(self) -> list[Conditioner]:
        return [part for part in self.parts.values() if isinstance(part, Conditioner)]
