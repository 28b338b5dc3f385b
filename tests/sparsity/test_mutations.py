"""Known bugs of sparsity code, planted in our modules: what asserts the truth notices each."""

import math
from types import SimpleNamespace

import pytest
import torch
from mutations import Mutation
from oracles import close, tiny, tokens_of

import minillm
from minillm.attention import causal_mask
from minillm.sparsity.counting import observe
from minillm.speculative.bug_gallery import library, patched

ORDER = (
    "modules",
    "sparsity.pruning",
    "sparsity.skipping",
    "fast.kernels.neurons",
    "fast.skipping_model",
    "sparsity.counting",
    "sparsity.neurons",
)


BUGS = [
    Mutation(
        "row of up and column of down exchanged (constructed)",
        "sparsity.skipping",
        "up, down = self.neurons[opened].unbind(1)",
        "down, up = self.neurons[opened].unbind(1)",
        "gathers",
    ),
    Mutation(
        "a batch reads what all of its tokens open, not what any does (constructed)",
        "sparsity.skipping",
        "gate.flatten(0, -2).any(0)",
        "gate.flatten(0, -2).all(0)",
        "gathers",
    ),
    Mutation(
        "small gates pass for shut ones, and it is called exact (constructed)",
        "sparsity.skipping",
        "opened = gate.flatten(0, -2).any(0)",
        "opened = (gate > 0.5).flatten(0, -2).any(0)",
        "gathers",
    ),
    Mutation(
        "the open gates' values are left out (constructed)",
        "sparsity.skipping",
        "gate[..., opened] * (x @ up.T)",
        "(gate[..., opened] > 0) * (x @ up.T)",
        "gathers",
    ),
    Mutation(
        "the loop leaves the gate's value out (constructed)",
        "fast.kernels.neurons",
        "                said *= gates[r, f]\n",
        "",
        "loops",
    ),
    Mutation(
        "gates below zero are open (constructed)",
        "fast.skipping_model",
        "gate = self._act(self._gate(normed)).contiguous()",
        "gate = self._gate(normed).contiguous()",
        "loops",
    ),
    Mutation(
        "what attention said is lost (constructed)",
        "fast.skipping_model",
        "        gate = self._act(self._gate(normed)).contiguous()\n",
        "        gate = self._act(self._gate(normed)).contiguous()\n        y.zero_()\n",
        "loops",
    ),
    Mutation(
        "a neuron counts once for each row that opens it (constructed)",
        "fast.kernels.neurons",
        "                wanted = 1\n",
        "                wanted += 1\n",
        "counts_bytes",
    ),
    Mutation(
        "reading the gate is free (constructed)",
        "sparsity.skipping",
        "self.passes * self.gate_bytes + self.neurons * self.neuron_bytes",
        "self.neurons * self.neuron_bytes",
        "counts_bytes",
    ),
    Mutation(
        "only W_down is counted (constructed)",
        "sparsity.skipping",
        "Reading(F, gate.nbytes, neurons[0].nbytes)",
        "Reading(F, gate.nbytes, neurons[0, 0].nbytes)",
        "counts_bytes",
    ),
    Mutation(
        "hidden keys counted as zeros",
        "sparsity.counting",
        "torch.ones_like(x, dtype=torch.bool) if counted is None else counted.expand(x.shape)",
        "torch.ones_like(x, dtype=torch.bool)",
        "counts_visible_keys",
    ),
    Mutation(
        "visible zeros over all keys (constructed)",
        "sparsity.counting",
        "& counts).sum(-1) / counts.sum(-1)",
        "& counts).sum(-1) / x.shape[-1]",
        "counts_visible_keys",
    ),
    Mutation(
        "negative outputs pass for small ones (constructed)",
        "sparsity.counting",
        "    size = x.abs()\n",
        "    size = x\n",
        "counts_visible_keys",
    ),
    Mutation(
        "the maximum of all rows, not of each (constructed)",
        "sparsity.counting",
        ".amax(-1, keepdim=True) if of_maximum",
        ".amax() if of_maximum",
        "counts_visible_keys",
    ),
    Mutation(
        "the smallest weights' mass (constructed)",
        "sparsity.counting",
        "part.sort(dim=-1, descending=True)",
        "part.sort(dim=-1)",
        "counts_visible_keys",
    ),
    Mutation(
        "unused where one token does without, not all (constructed)",
        "sparsity.neurons",
        "~layer.any(1)",
        "~layer.all(1)",
        "unused_neurons",
    ),
    Mutation(
        "the law of being used, not unused (constructed)",
        "sparsity.neurons",
        "    return X ** whole(",
        "    return (1 - X) ** whole(",
        "unused_neurons",
    ),
    Mutation(
        "mean of powers and power of means confused (constructed)",
        "sparsity.neurons",
        "by_rates=(shut**N).mean(-1)",
        "by_rates=shut.mean(-1) ** N",
        "unused_neurons",
    ),
    Mutation(
        "neighbours of different texts (constructed)",
        "sparsity.neurons",
        "torch.cat(opened[:, :, : T // N * N].split(N, dim=2), dim=1)",
        "opened[:, :, : T // N * N].transpose(1, 2).flatten(1, 2).unflatten(1, (-1, N))",
        "unused_neurons",
    ),
    Mutation(
        "a threshold on values, not magnitudes (constructed)",
        "sparsity.pruning",
        "x.masked_fill(x.abs() <= self.tau, 0)",
        "x.masked_fill(x <= self.tau, 0)",
        "makes_zeros",
    ),
    Mutation(
        "top-k attention sees hidden keys where fewer are visible (constructed)",
        "sparsity.pruning",
        "super().forward(q, k, v, chosen & mask)",
        "super().forward(q, k, v, chosen)",
        "makes_zeros",
    ),
    Mutation(
        "a window one token too wide (constructed)",
        "sparsity.pruning",
        "~causal.tril(-window)",
        "~causal.tril(-window - 1)",
        "makes_zeros",
    ),
]


# Each takes the library, or a copy of it with a bug.


def gathers(lib: SimpleNamespace) -> None:
    mlp = tiny(minillm).blocks[0].mlp
    x = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert close(lib.SkippingMLP(mlp)(x), mlp(x))


def _read(lib: SimpleNamespace, T: int):
    """The twin of a model, logits of both, and what the model's gates let through."""
    model, tokens = tiny(minillm, dtype=torch.float32), tokens_of(1, 1, T)
    fast = lib.skipping(model, "F.linear")
    assert all(type(block) is lib.SkippingBlock for block in fast.blocks)
    logits = fast(tokens, minillm.KVCache(model.config, 1, 40))
    return fast, logits, model(tokens), observe(model, tokens).gates


def loops(lib: SimpleNamespace) -> None:
    for T in (1, 6):
        _, ours, theirs, _ = _read(lib, T)
        assert (ours - theirs).abs().max() < 1e-4


def counts_bytes(lib: SimpleNamespace) -> None:
    fast, _, _, gates = _read(lib, 6)
    nz = int(gates.flatten(1, 2).any(1).sum())
    assert lib.mlp_bytes(fast)[0] == 4 * 24 * (2 * 20 + 2 * nz)


def counts_visible_keys(lib: SimpleNamespace) -> None:
    rows = torch.tensor([[0.9, 0.0, 0.0], [0.5, -0.02, 0.0], [0.04, 0.01, -0.2]])
    visible = causal_mask(3, 3, torch.device("cpu"))
    assert lib.share_below(rows, 0.03, visible).tolist() == pytest.approx([0, 1 / 2, 1 / 3])
    relative = lib.share_below(rows, 0.1, visible, of_maximum=True)
    assert relative.tolist() == pytest.approx([0, 1 / 2, 1 / 3])
    assert lib.mass_of_top(rows[:1], 1).tolist() == pytest.approx([0.9])


def unused_neurons(lib: SimpleNamespace) -> None:
    opened = torch.tensor([[True, False, False, False], [False, True, False, False]])[None, None]
    found = lib.unused(opened)  # one group of two tokens, four neurons
    assert found.measured.item() == 0.5
    assert found.by_rates.item() == pytest.approx((0.25 + 0.25 + 1 + 1) / 4)
    assert found.by_law.item() == pytest.approx(0.75**2)
    assert math.isclose(lib.unused_by_law(0.9, 2), 0.81)
    texts = torch.arange(2 * 4).view(1, 2, 4, 1) < 4  # the first text opens, the second never
    groups = lib.neighbours(texts, 2)
    assert groups.all(2).equal(groups.any(2))


def makes_zeros(lib: SimpleNamespace) -> None:
    model, tokens = tiny(minillm, hidden_act="silu"), tokens_of(2, 1, 12)
    before = observe(model, tokens).gates[0]
    after = observe(lib.cats(model, tokens, 0.5), tokens).gates[0]
    assert before[after == 0].abs().max() < after[after != 0].abs().min()
    changed = torch.cat((tokens[:, :2], (tokens[:, 2:] + 1) % 31), dim=1)
    twin = lib.top_k_attention(model, 4)
    assert close(twin(changed)[:, :2], twin(tokens)[:, :2])
    assert lib.sinks_and_window(5, 1, 2).sum(-1).tolist() == [1, 2, 3, 3, 3]


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_it_is_noticed(bug: Mutation) -> None:
    with pytest.raises(AssertionError):
        globals()[bug.oracle](patched(bug, ORDER))


@pytest.mark.parametrize("oracle", sorted({bug.oracle for bug in BUGS}))
def test_the_library_passes(oracle: str) -> None:
    globals()[oracle](library(ORDER))
