from __future__ import annotations

import pytest
import torch

from glissando.errors import UserError
from glissando.representations.complex_stft import ComplexSTFT


def test_amplitudes_are_compressed_and_phases_kept() -> None:
    form = ComplexSTFT(22050, 2, 64, 16, power=0.5, factor=0.3)
    wave = torch.randn(1, 2, 400, generator=torch.Generator().manual_seed(0))
    z = form.encode(wave)
    expected = form.stft(wave)
    for channel in range(2):
        found = torch.complex(z[:, 2 * channel], z[:, 2 * channel + 1])
        c = expected[:, channel]
        torch.testing.assert_close(found, 0.3 * c.abs() ** 0.5 * torch.exp(1j * c.angle()))


def test_power_1_is_the_transform_itself() -> None:
    form = ComplexSTFT(22050, 1, 64, 16, power=1, factor=1)
    wave = torch.randn(1, 1, 400, generator=torch.Generator().manual_seed(0))
    expected = torch.view_as_real(form.stft(wave)[:, 0]).movedim(-1, 1)
    torch.testing.assert_close(form.encode(wave), expected)


@pytest.mark.parametrize("power", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("level", [1e-7, 1e-3, 1.0, 100.0])
def test_loud_and_quiet_come_back_alike(power: float, level: float) -> None:
    form = ComplexSTFT(22050, 1, power=power)
    wave = level * torch.randn(1, 1, 3001, generator=torch.Generator().manual_seed(0))
    again = form.decode(form.encode(wave), 3001)
    assert (again - wave).abs().max() < 1e-4 * level


@pytest.mark.parametrize("flag", ["power", "factor"])
def test_what_has_no_inverse_is_refused(flag: str) -> None:
    with pytest.raises(UserError, match=f"representation.{flag} must be above 0, not 0"):
        ComplexSTFT(22050, 1, **{flag: 0})
