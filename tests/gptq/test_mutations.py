"""The tests of GPTQ notice each known defect: it is planted, and an oracle must fail."""

from typing import Any

import pytest
import torch
from mutations import Mutation
from torch import Tensor

from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
from minillm.speculative.bug_gallery import library, patched

ORDER = ("gptq.hessian", "gptq.columns")
SPEC = Spec("int3", 16)


def problem() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 64, generator=draw)
    x = torch.randn(300, 64, generator=draw) @ torch.randn(64, 64, generator=draw)
    return weight, 2 / 300 * x.double().T @ x.double()


def identity(lib: Any) -> None:
    """The squares of the errors sum to the error of the output, for any order and block."""
    weight, H = problem()
    for options in ({}, {"block": 24}, {"act_order": True, "static_groups": True}):
        seen: list[Any] = []
        ours = lib.gptq(weight, H, SPEC, watch=seen.append, **options)
        total = sum(float((column.error**2).sum()) for column in seen)
        H_damped = H + 0.01 * H.diagonal().mean() * torch.eye(64, dtype=H.dtype)
        expected = lib.round_trip_error(weight, ours, H_damped)
        assert abs(total / expected - 1) < 1e-9


def blocks(lib: Any) -> None:
    weight, H = problem()
    whole, *parts = (lib.gptq(weight, H, SPEC, block=size) for size in (64, 1, 8, 24))
    for part in parts:
        assert dequantize(part).equal(dequantize(whole))


def fresh_scales(lib: Any) -> None:
    """A group's scales are those of its weights when the groups before it are done."""
    weight, H = problem()
    seen: list[Any] = []
    ours = lib.gptq(weight, H, SPEC, watch=seen.append)
    W = weight.double().clone()
    for column in seen:
        if column.index % 16 == 0:
            group = W[:, column.index : column.index + 16]
            expected = quantize(group, Spec("int3", 16)).grid.scales[:, 0]
            torch.testing.assert_close(ours.grid.scales[:, column.index // 16], expected)
        W[:, column.rest] -= column.update


def diagonal(lib: Any) -> None:
    weight, H = problem()
    for act_order in (False, True):
        ours = lib.gptq(weight, H.diagonal().diag(), SPEC, act_order=act_order, static_groups=True)
        assert ours.codes.equal(quantize(weight, SPEC).codes)


def dead(lib: Any) -> None:
    """The weights of inputs that were always zero are rounded to nearest, whatever H's units."""
    weight, H = problem()
    H[3], H[:, 3] = 0, 0
    ours = lib.gptq(weight, H, SPEC, static_groups=True)
    assert ours.codes[:, 3].equal(quantize(weight, SPEC).codes[:, 3])
    again = lib.gptq(weight, 1e-6 * H, SPEC, static_groups=True)
    assert again.codes.equal(ours.codes)


def full_precision(lib: Any) -> None:
    h = lib.Hessian(2)
    for _ in range(3):
        h.add(torch.full((5000, 2), 8.0, dtype=torch.float16))
    assert h.matrix.tolist() == [[128.0, 128.0], [128.0, 128.0]]
    assert h.samples == 15000


def spares_bad_matrices(lib: Any) -> None:
    weight, H = problem()
    with pytest.warns(UserWarning, match="damping raised"):
        lib.gptq(weight, H - 0.05 * H.diagonal().mean() * torch.eye(64), SPEC)
    with pytest.raises(ValueError, match=r"need a Hessian of 64 x 64, got \(9, 9\)"):
        lib.gptq(weight, H[:9, :9], SPEC)


ORACLES = {
    function.__name__: function
    for function in (
        identity,
        blocks,
        fresh_scales,
        diagonal,
        dead,
        full_precision,
        spares_bad_matrices,
    )
}
BUGS = [
    Mutation(
        "errors indexed by the column of the matrix, where they miss the block's (mlx-lm#1878)",
        "gptq.columns",
        "error = errors[:, i - start] =",
        "error = (errors if start == 0 else errors.zero_().clone())[:, i - start] =",
        "identity",
    ),
    Mutation(
        "the update of a column runs on into the next block, which gets it twice (mlx-lm#1878)",
        "gptq.columns",
        "W[:, i + 1 : end] -= torch.outer(error, U[i, i + 1 : end])",
        "W[:, i + 1 : i + end] -= torch.outer(error, U[i, i + 1 : i + end])",
        "identity",
    ),
    Mutation(
        "the update of a block begins at its last column (constructed)",
        "gptq.columns",
        "W[:, end:] -= errors @ U[start:end, end:]",
        "W[:, end - 1 : -1] -= errors @ U[start:end, end:]",
        "identity",
    ),
    Mutation(
        "the block never updates what lies beyond it (constructed)",
        "gptq.columns",
        "        W[:, end:] -= errors @ U[start:end, end:]\n",
        "",
        "identity",
    ),
    Mutation(
        "the error is not divided by U_ii (constructed)",
        "gptq.columns",
        "(W[:, i] - rounded) / U[i, i]",
        "(W[:, i] - rounded)",
        "identity",
    ),
    Mutation(
        "the lower root of the inverse (constructed)",
        "gptq.hessian",
        "torch.cholesky_inverse(L), upper=True)",
        "torch.cholesky_inverse(L))",
        "identity",
    ),
    Mutation(
        "the root of H, not of its inverse (constructed)",
        "gptq.hessian",
        "torch.linalg.cholesky_ex(torch.cholesky_inverse(L), upper=True)",
        "torch.linalg.cholesky_ex(hessian, upper=True)",
        "identity",
    ),
    Mutation(
        "dynamic groups with scales of the weights as given (constructed)",
        "gptq.columns",
        "if not static_groups and start % size == 0:",
        "if False:",
        "fresh_scales",
    ),
    Mutation(
        "blocks that a group outgrows: scales before all updates are made (as in IST-DASLab/gptq)",
        "gptq.columns",
        "*range(0, K, size), K})",
        "K})",
        "fresh_scales",
    ),
    Mutation(
        "the permutation is not undone (constructed)",
        "gptq.columns",
        "column = int(order[i])",
        "column = i",
        "diagonal",
    ),
    Mutation(
        "the Hessian is not permuted (constructed)",
        "gptq.columns",
        "inverse_root(hessian[order][:, order], damping)",
        "inverse_root(hessian, damping)",
        "identity",
    ),
    Mutation(
        "columns are moved the wrong way (constructed)",
        "gptq.columns",
        "W[:, i + 1 : end] -= torch",
        "W[:, i + 1 : end] += torch",
        "identity",
    ),
    Mutation(
        "the update reaches back to rounded columns and past the next (constructed)",
        "gptq.columns",
        "W[:, i + 1 : end] -= torch.outer(error, U[i, i + 1 : end])",
        "W[:, i:end-1] -= torch.outer(error, U[i, i + 1 : end])",
        "identity",
    ),
    Mutation(
        "dead inputs lose their weights (as in IST-DASLab/gptq)",
        "gptq.columns",
        "weight.to(hessian)[:, order]",
        "weight.to(hessian).masked_fill(hessian.diagonal() == 0, 0)[:, order]",
        "dead",
    ),
    Mutation(
        "dead inputs get 1 on the diagonal, whatever H's units (IST-DASLab/gptq)",
        "gptq.hessian",
        "    mean = diagonal[alive].mean()\n",
        "    mean = torch.where(alive, diagonal, 1).mean()\n",
        "dead",
    ),
    Mutation(
        "sums in half precision",
        "gptq.hessian",
        "self._sum += x.T @ x",
        "self._sum += (x.half().T @ x.half())",
        "full_precision",
    ),
    Mutation(
        "a mean over the latest batch only (constructed)",
        "gptq.hessian",
        "self.samples += len(x)",
        "self.samples = len(x)",
        "full_precision",
    ),
    Mutation(
        "a failed Cholesky factor is used (constructed)",
        "gptq.hessian",
        "    if failed:\n        return None\n",
        "",
        "spares_bad_matrices",
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_an_oracle_notices(bug: Mutation) -> None:
    with pytest.raises((AssertionError, ValueError, RuntimeError, pytest.fail.Exception)):
        ORACLES[bug.oracle](patched(bug, ORDER))


@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_passes_without_a_bug(name: str) -> None:
    ORACLES[name](library(ORDER))
