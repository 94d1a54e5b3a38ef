"""What every conditioner promises: a batch's attributes in, named entries of a Condition out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glissando.condition import Condition, Sizes
from glissando.errors import UserError

Attributes = Mapping[str, Any]
NullPolicy = Literal["zero", "learned", "kept"]


class Conditioner(nn.Module, ABC):
    """Turns one attribute of each clip into one entry (or more) of the batch's ``Condition``.

    A clip without the attribute (absent or None) gets the *absent* value, a constant. What
    guidance and dropout put in the place of an entry is its *null*, by policy:

    - ``zero``: the absent value, zeros;
    - ``learned``: the absent value, trained with the network;
    - ``kept``: the entry itself, so that guidance does not push it (Stable Audio's timing).

    A subclass writes ``parse`` (one attribute, checked), ``embed`` (a batch) and ``absent``.

    Args:
        attribute: key in a clip's attributes.
        unconditional: the policy above.
    """

    policies: tuple[str, ...] = ("zero", "learned", "kept")

    def __init__(self, attribute: str, unconditional: NullPolicy) -> None:
        super().__init__()
        if unconditional not in self.policies:
            known = f"{type(self).__name__} knows {list(self.policies)}"
            raise UserError(f"unconditional={unconditional!r} for {attribute!r}: {known}")
        self.attribute = attribute
        self.kept = unconditional == "kept"

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """Entry name -> kind and features, known before any caption is seen."""

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """One clip's attribute, not None, checked; None if it says nothing (a blank caption).

        Raises:
            UserError: the attribute is not what it should be.
        """

    @abstractmethod
    def embed(self, values: list[Any], frames: int | None) -> Condition:
        """Parsed values of B clips -> entries with B rows, on this module's device."""

    @abstractmethod
    def absent(self, n: int, frames: int) -> Condition:
        """n rows of "not given", the same entries as ``embed``."""

    def forward(self, attributes: Sequence[Attributes], frames: int | None = None) -> Condition:
        """Attributes of B clips -> Condition with B rows.

        ``frames`` is the latent's length T: only time-aligned conditioners need it.
        """
        values = [self._value(row) for row in attributes]
        given = [value is not None for value in values]
        if not any(given):
            return self.absent(len(values), frames or 1)
        stand_in = next(value for value in values if value is not None)
        filled = [stand_in if value is None else value for value in values]
        condition = self.embed(filled, frames)
        if all(given):
            return condition
        keep = torch.tensor(given, device=device_of(condition))
        return condition.where(keep, self.absent(len(values), frames_of(condition)))

    def null(
        self, n: int, negative: Sequence[str | None] | None = None, like: Condition | None = None
    ) -> Condition:
        """n rows of the null condition.

        Args:
            negative: negative prompts, one a row; only text has a use for them.
            like: the condition whose null it is. Needed by ``kept`` (its entries are returned) and
                for time-aligned entries (its length).

        Raises:
            ValueError: ``like`` is needed and was not given.
        """
        if self.kept:
            if like is None:
                raise ValueError(f"{list(self.sizes)} are kept in the null: pass null(like=…)")
            return like.only(self.sizes)
        return self.absent(n, frames_of(like) if like is not None else 1)

    def warm(self, attributes: Sequence[Attributes]) -> None:
        """Prepare for all that will be asked: text is encoded and cached, the rest is free."""

    def align(self, latent_rate: float, lead: float = 0.0) -> None:
        """Told once where the latent's frames lie in time; time-aligned conditioners remember.

        ``latent_rate`` is frames a second, ``lead`` as in ``Representation``.
        """

    def only(self, names: Collection[str]) -> None:
        """Make no other entries than ``names`` from now on; at least one of them is ours."""

    def _value(self, attributes: Attributes) -> Any:
        value = attributes.get(self.attribute)
        return None if value is None else self.parse(value)


def absent_value(policy: str, dim: int, owner: nn.Module, name: str) -> None:
    """Registers (dim,) ``owner.name``: a parameter if learned, else zeros outside the state dict.

    A learned one starts small but not at zero, so that it is apart from every encoder's output.
    """
    if policy == "learned":
        owner.register_parameter(name, nn.Parameter(0.02 * torch.randn(dim)))
    else:
        owner.register_buffer(name, torch.zeros(dim), persistent=False)


def device_of(condition: Condition) -> torch.device:
    return next(iter(condition.values())).value.device


def frames_of(condition: Condition) -> int:
    """T of the time-aligned entries, 1 if there are none."""
    return max((e.value.shape[-1] for e in condition.values() if e.value.ndim == 4), default=1)


def rows(value: Tensor, n: int) -> Tensor:
    """(D,) -> (n, D), without copying."""
    return value.expand(n, -1)
