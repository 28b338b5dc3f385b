"""Eight-bit kernels: right, row by row, at the extremes, and without torch's operators."""

import pytest
import torch
import torch.nn.functional as F

from minillm.fast import int8_linear
from minillm.fast.int8_linear import Int8DynamicLinear, Int8WeightOnlyLinear, integer_sums

LAYERS = [Int8WeightOnlyLinear, Int8DynamicLinear]


def quantized(n: int = 48, k: int = 64, *, seed: int = 0):
    """Integers, scales, and the weights they stand for."""
    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    scales = weight.abs().amax(1) / 127
    integers = (weight / scales[:, None]).round().to(torch.int8)
    return integers, scales, integers * scales[:, None]


def relative_error(y, expected) -> float:
    return float((y - expected).norm() / expected.norm())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("bias", [False, True])
def test_close_to_the_product_in_float32(layer, bias) -> None:
    integers, scales, weight = quantized()
    b = torch.randn(48, generator=torch.Generator().manual_seed(0)) if bias else None
    x = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(1))
    y = layer(integers, scales, b)(x)
    assert (y.shape, y.dtype) == ((2, 9, 48), torch.float32)
    assert (
        relative_error(y, F.linear(x, weight, b))
        < {Int8WeightOnlyLinear: 0.006, Int8DynamicLinear: 0.02}[layer]
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_a_row_alone_equals_the_row_in_a_block(layer) -> None:
    integers, scales, _ = quantized()
    kernel = layer(integers, scales)
    x = torch.randn(1, 17, 64, generator=torch.Generator().manual_seed(2))
    block = kernel(x)
    for r in range(17):
        torch.testing.assert_close(kernel(x[:, r : r + 1])[:, 0], block[:, r])
    x[:, 7] *= 1e4  # a token with outliers
    others = [r for r in range(17) if r != 7]
    assert kernel(x)[:, others].equal(block[:, others])


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_numbers_do_not_saturate(layer, sign) -> None:
    """Every product at its largest: 16-bit sums of pairs would overflow at 255 levels."""
    integers = torch.full((4, 256), 127 * sign, dtype=torch.int8)
    y = layer(integers, torch.full((4,), 1 / 127))(torch.full((1, 256), 1e3))
    torch.testing.assert_close(y, torch.full((1, 4), 256e3 * sign), rtol=0.01, atol=0)


@pytest.mark.parametrize("layer", LAYERS)
def test_zeros_and_tiny_rows(layer) -> None:
    integers, scales, _ = quantized()
    kernel = layer(integers, scales)
    assert kernel(torch.zeros(3, 64)).equal(torch.zeros(3, 48))
    assert kernel(torch.full((1, 64), 1e-30)).isfinite().all()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [1e-37, 3.6e-37, 1e-30, 3e36, 1e38])
def test_rows_at_the_edges_of_float32_keep_their_size(layer, size: float) -> None:
    kernel = layer(torch.eye(16, dtype=torch.int8), torch.ones(16))
    rows = torch.full((1, 16), size)
    torch.testing.assert_close(kernel(rows), rows, rtol=0.06, atol=0)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("k", [1, 8, 15, 16, 20, 24, 33, 40])
def test_any_number_of_inputs(layer, k) -> None:
    """Torch's weight-only kernel reads sixteen at once, and does not check."""
    integers, scales, weight = quantized(48, k)
    x = torch.randn(6, k, generator=torch.Generator().manual_seed(4))
    assert relative_error(layer(integers, scales)(x), x @ weight.T) < 0.03


@pytest.mark.parametrize("layer", LAYERS)
def test_no_rows(layer) -> None:
    integers, scales, _ = quantized()
    assert layer(integers, scales)(torch.ones(2, 0, 64)).shape == (2, 0, 48)


def test_without_the_private_operator_the_result_is_the_same(monkeypatch) -> None:
    integers, scales, _ = quantized()
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(3))
    native = Int8WeightOnlyLinear(integers, scales)
    expected = native(x)
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    hidden = Int8WeightOnlyLinear(integers, scales)
    assert hidden.name == "F.linear over dequantized weights" != native.name
    assert relative_error(hidden(x), expected) < 0.004


@pytest.mark.parametrize("layer", LAYERS)
def test_scales_that_do_not_fit_are_refused(layer) -> None:
    integers, scales, weight = quantized()
    with pytest.raises(ValueError, match="a scale per output"):
        layer(integers, scales[:5])
    with pytest.raises(ValueError, match=r"got a matrix of torch\.float32"):
        layer(weight, scales)


@pytest.mark.parametrize("K", [1, 2, 3, 16, 31, 64, 320])
@pytest.mark.parametrize("R", [1, 2, 5])
def test_rows_of_integers_are_their_naive_twin(R: int, K: int) -> None:
    """Round, multiply, rescale, each as torch says it."""
    integers, scales, _ = quantized(24, K)
    layer = Int8DynamicLinear(integers, scales)
    x = torch.randn(R, K, generator=torch.Generator().manual_seed(5))
    steps = x.abs().amax(-1, keepdim=True) / 127
    codes = (x / steps).round()
    expected = (codes.long() @ integers.long().T) * steps * scales
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_a_device_multiplies_the_same_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    integers, scales, _ = quantized()
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(5))
    steps = x.abs().amax(-1, keepdim=True) / 127
    expected = ((x / steps).round().long() @ integers.long().T) * steps * scales
    monkeypatch.setattr(int8_linear, "_FEW", 0)  # our loop is for the host
    there = int8_linear._on_a_device(integers, scales)
    torch.testing.assert_close(there(x), expected, rtol=1e-5, atol=1e-6)
    assert there(x[:1]).equal(there(x)[:1])


def test_sums_of_integers_are_exact_in_any_block() -> None:
    integers, scales, _ = quantized()
    layer = Int8DynamicLinear(integers, scales)
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(6))
    block = layer(x)
    assert all(layer(x[r : r + 1]).equal(block[r : r + 1]) for r in range(40))


@pytest.mark.parametrize("R", [1, 16, 17, 40])
@pytest.mark.parametrize("K", [1, 33, 1032, 1033, 3000])
def test_sums_are_exact_at_their_largest(R: int, K: int) -> None:
    """127 x 128 x 1,033 is more than float32 counts one by one."""
    generator = torch.Generator().manual_seed(K)
    codes = torch.full((R, K), 127, dtype=torch.int8)
    integers = torch.full((3, K), 127, dtype=torch.int8)
    integers[1], integers[1, 0], codes[0, 0] = -128, -127, 126
    integers[2] = torch.randint(-128, 128, (K,), generator=generator)
    assert integer_sums(codes, integers).equal(codes.int() @ integers.int().T)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_and_spoils_no_other_row(layer, bad: float) -> None:
    integers, scales, _ = quantized()
    kernel = layer(integers, scales)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(7))
    expected = kernel(x)
    x[1, 5] = bad
    y = kernel(x)
    assert not y[1].isfinite().any()
    assert y[[0, 2]].equal(expected[[0, 2]])


def test_what_has_no_sums_of_integers_is_refused_and_strides_are_heard() -> None:
    integers, _, weight = quantized(8, 4)
    with pytest.raises(ValueError, match=r"got torch\.float32 and torch\.int8"):
        integer_sums(weight, integers)
    with pytest.raises(ValueError, match="rows of 3 numbers do not meet rows of 4"):
        integer_sums(integers[:, :3], integers)
    turned = integers[:4].T
    assert integer_sums(turned, integers).equal(integer_sums(turned.contiguous(), integers))
