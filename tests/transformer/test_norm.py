"""RMSNorm equals `torch.nn.RMSNorm`, its naive twin, from the zero vector to huge ones."""

import pytest
import torch
from torch import Tensor, nn

from minillm.norm import RMSNorm

WIDTH, EPS = 48, 1e-5
CLOSE = {  # relative
    torch.float64: 1e-11,
    torch.float32: 1e-6,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,  # two roundings to 8 bits
}
DTYPES = pytest.mark.parametrize("dtype", CLOSE, ids=str)


def twins(dtype: torch.dtype, eps: float = EPS) -> tuple[RMSNorm, nn.RMSNorm]:
    """The norm and torch's, with the same random weight."""
    ours, theirs = RMSNorm(WIDTH, eps), nn.RMSNorm(WIDTH, eps)
    weight = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    for norm in (ours, theirs):
        norm.weight.data.copy_(weight)
    return ours.to(dtype), theirs.to(dtype)


def vectors(dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (scale * torch.randn(3, 5, WIDTH, generator=generator, dtype=torch.float64)).to(dtype)


@DTYPES
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_equals_torch(dtype: torch.dtype, scale: float) -> None:
    ours, theirs = twins(dtype)
    x = vectors(dtype, scale)
    y = ours(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    torch.testing.assert_close(y, theirs(x), rtol=CLOSE[dtype], atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_16_bits_are_rounded_from_a_precise_result(dtype: torch.dtype) -> None:
    ours, theirs = twins(dtype)
    x = vectors(dtype)
    exact = theirs.double()(x.double())
    torch.testing.assert_close(ours(x).double(), exact, rtol=CLOSE[dtype], atol=0)


@pytest.mark.parametrize("eps", [1e-6, 1e-5, 0.1])
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3])
def test_small_vectors_meet_eps(scale: float, eps: float) -> None:
    ours, theirs = twins(torch.float32, eps)
    x = vectors(torch.float32, scale)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=0)


@DTYPES
def test_the_zero_vector_stays_zero(dtype: torch.dtype) -> None:
    x = torch.zeros(2, WIDTH, dtype=dtype)
    assert torch.equal(twins(dtype)[0](x), x)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e6])
def test_gradients_are_torchs(scale: float) -> None:
    found = []
    for norm in twins(torch.float64):
        x = vectors(torch.float64, scale).requires_grad_()
        (norm(x) * vectors(torch.float64)).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        found.append((x.grad, norm.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float16, 1e4),  # the squares are beyond 16 bits
        (torch.bfloat16, 1e17),
        (torch.float32, 1e17),
        (torch.float64, 1e150),
    ],
    ids=str,
)
def test_huge_values_are_normed(dtype: torch.dtype, scale: float) -> None:
    ours, _ = twins(dtype)
    x = vectors(dtype, scale)
    y = ours(x)
    assert y.isfinite().all()
    root_mean_square = (y / ours.weight).double().square().mean(-1).sqrt()
    torch.testing.assert_close(
        root_mean_square, torch.ones_like(root_mean_square), rtol=CLOSE[dtype], atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_whose_squares_overflow_are_no_nan(dtype: torch.dtype) -> None:
    ours, theirs = twins(dtype)
    x = vectors(dtype, 1e25)
    assert torch.equal(ours(x), theirs(x))  # zero, as torch says


def test_a_nan_stays_in_its_vector() -> None:
    x = vectors(torch.float32)
    x[0, 0, 0] = float("nan")
    y = twins(torch.float32)[0](x)
    assert y[0, 0].isnan().all()
    assert y.flatten(0, 1)[1:].isfinite().all()
