"""What must be true of attention: by hand, after an error, and over a tree of guesses."""

from types import ModuleType

import torch

from oracles.models import close

__all__ = ["attend_by_hand"]


def attend_by_hand(lib: ModuleType, seed: int = 0) -> None:
    """`Attend` and `attention_weights` == softmax attention head by head, token by token."""
    Attend, attention_weights = lib.attention.Attend, lib.attention.attention_weights
    generator = torch.Generator().manual_seed(seed)
    B, H, G, D = 2, 6, 2, 4
    for T, S, masked in ((5, 5, False), (1, 7, False), (3, 7, True), (1, 7, True)):
        q, k, v = (
            torch.randn(B, heads, n, D, generator=generator, dtype=torch.float64)
            for heads, n in ((H, T), (G, S), (G, S))
        )
        mask = torch.rand(B, 1, T, S, generator=generator) < 0.5 if masked else None
        if mask is not None:
            mask[..., 0] = True
        out, weights = Attend()(q, k, v, mask), attention_weights(q, k, mask)
        for b in range(B):
            for h in range(H):
                group = h // (H // G)  # the first H/G query heads share the first key/value head
                for t in range(T):
                    visible = torch.arange(S) <= S - T + t if mask is None else mask[b, 0, t]
                    scores = k[b, group] @ q[b, h, t] / D**0.5
                    expected = torch.where(visible, scores.exp(), 0.0)
                    expected /= expected.sum()
                    assert close(weights[b, h, t], expected)
                    assert close(out[b, h, t], expected @ v[b, group])
