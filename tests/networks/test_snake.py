"""The fused snake against the formula written out, and against diffusers'."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from glissando.networks import snake
from glissando.networks.snake import Snake

Layout = Callable[[Tensor], Tensor]


def written_out(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """(B, C, T) as the paper and Stable Audio have it."""
    a, b = alpha.exp()[:, None], beta.exp()[:, None]
    return x + (a * x).sin().square() / (b + 1e-9)


def channels_last(x: Tensor) -> Tensor:
    """The same (B, C, T), otherwise in memory."""
    return x.mT.contiguous().mT


def scattered(x: Tensor) -> Tensor:
    """The same (B, C, T), as every other sample of something."""
    return torch.stack([x, x + 1], dim=-1).flatten(2)[..., ::2]


layouts = pytest.mark.parametrize("layout", [torch.clone, channels_last, scattered])


def activation(channels: int, dtype: torch.dtype = torch.float32, inplace: bool = False) -> Snake:
    made = Snake(channels, inplace).to(dtype)
    torch.nn.init.normal_(made.alpha)
    torch.nn.init.normal_(made.beta)
    return made


@pytest.fixture(params=[3, 2**18], ids=["many tiles", "one tile"])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snake, "TILE", request.param)


@pytest.fixture(params=[1, 4])
def threads(request: pytest.FixtureRequest) -> object:
    """Of few threads the sine is NumPy's."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@layouts
@pytest.mark.usefixtures("tile", "threads")
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_value_and_gradients(layout: Layout, dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(0)
    made = activation(5, dtype)
    x = layout(3 * torch.randn(2, 5, 7, dtype=dtype)).requires_grad_()
    weight = torch.randn(2, 5, 7, dtype=dtype)
    inputs = (x, made.alpha, made.beta)
    expected = written_out(*inputs)
    torch.testing.assert_close(made(x), expected, atol=near, rtol=near)
    fused = torch.autograd.grad((made(x) * weight).sum(), inputs)
    plain = torch.autograd.grad((expected * weight).sum(), inputs)
    torch.testing.assert_close(fused, plain, atol=near, rtol=near)
    with torch.no_grad():
        torch.testing.assert_close(made(x), expected, atol=near, rtol=near)


@layouts
@pytest.mark.usefixtures("tile")
def test_gradients_against_differences(layout: Layout) -> None:
    torch.manual_seed(0)
    made = activation(3, torch.float64)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return torch.func.functional_call(made, {"alpha": alpha, "beta": beta}, (layout(x),))

    assert torch.autograd.gradcheck(call, (x, made.alpha, made.beta))


def test_computes_what_diffusers_does() -> None:
    pytest.importorskip("diffusers")
    from diffusers.models.autoencoders.autoencoder_oobleck import Snake1d

    torch.manual_seed(0)
    made, theirs = activation(6), Snake1d(6)
    theirs.alpha.data.copy_(made.alpha.data[None, :, None])
    theirs.beta.data.copy_(made.beta.data[None, :, None])
    x = torch.randn(2, 6, 50)
    torch.testing.assert_close(made(x), theirs(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("layout", [torch.clone, channels_last])
def test_only_a_snake_in_place_overwrites_and_only_without_gradients(layout: Layout) -> None:
    x = layout(torch.randn(2, 4, 9))
    for inplace in (False, True):
        made, given = activation(4, inplace=inplace), x.clone()
        made(given)
        assert torch.equal(given, x)
        with torch.no_grad():
            out = made(given)
        assert (out.data_ptr() == given.data_ptr()) is inplace
        assert torch.equal(given, x) is not inplace


@layouts
def test_the_result_lies_in_memory_as_x_does(layout: Layout) -> None:
    made, x = activation(4, inplace=True), layout(torch.randn(2, 4, 9))
    expected = written_out(x, made.alpha, made.beta)
    strides = x.stride() if layout is channels_last else expected.contiguous().stride()
    assert made(x).stride() == strides
    with torch.no_grad():
        out = made(x)
    assert out.stride() == strides
    torch.testing.assert_close(out, expected)


def test_bf16_is_computed_in_float32_and_rounded_once() -> None:
    made, x = activation(4), torch.randn(2, 4, 300).bfloat16()
    expected = written_out(x.float(), made.alpha, made.beta)
    out = made(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected.bfloat16(), atol=0, rtol=2**-7)
    assert (out != expected.bfloat16()).float().mean() < 0.01  # sines differ in the last bit
    given = x.clone().requires_grad_()
    made(given).float().sum().backward()
    assert given.grad is not None
    exact = x.float().requires_grad_()
    written_out(exact, made.alpha, made.beta).sum().backward()
    torch.testing.assert_close(given.grad.float(), exact.grad, atol=0.05, rtol=0.02)


def test_it_keeps_its_input_alone_for_the_way_back() -> None:
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = torch.randn(1, 8, 1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        activation(8)(x)
    assert [t.data_ptr() for t in kept if t.numel() == x.numel()] == [x.data_ptr()]


@pytest.mark.parametrize("value", [0.0, torch.inf, torch.nan, 1e6, -1e6])
def test_extremes(value: float) -> None:
    made = activation(2)
    with torch.no_grad():
        out = made(torch.full((1, 2, 3), value))
        expected = written_out(torch.full((1, 2, 3), value), made.alpha, made.beta)
    torch.testing.assert_close(out, expected, equal_nan=True)
