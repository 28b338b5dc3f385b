"""The checks of lesson 00: parameters of a block, attention in a window, a head that looks back."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.attention import attention_weights
from minillm.checkpoint import load
from minillm.data.heldout import stories
from minillm.tokens import encode
from minillm.whole import whole
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.transformer.watching import watch

__all__ = ["check", "hint", "looks_back"]

C, H, G, D, MLP = 4096, 32, 8, 128, 14336  # Llama-3-8B: width, heads, kv heads, head dim, MLP width


@exercise(
    "00.1",
    hints=[
        "Four parts: the q, k, v matrix, the output projection, the MLP, two norms.",
        "q is as wide as all query heads together, k and v as all key/value heads: "
        "4096 x (32 + 2 x 8) x 128.",
        "The gated MLP has three matrices of 4096 x 14336; a norm has one number per dimension.",
    ],
)
def parameters_of_a_block(answer: Any) -> Verdict:
    """How many parameters has one block of Llama-3-8B?"""
    qkv, out, mlp, norms = C * (H + 2 * G) * D, H * D * C, 3 * C * MLP, 2 * C
    true = qkv + out + mlp + norms
    mistakes = {
        true - norms: "Nearly: two norms have 4096 numbers each.",
        true - norms // 2: "Nearly: there are two norms in a block.",
        true - mlp // 3: "The MLP is gated: it has three matrices, gate, up and down.",
        true - norms - mlp // 3: "The MLP is gated, three matrices; and the norms have scales.",
        true + 2 * C * (H - G) * D: "Keys and values have 8 heads, not 32: groups share them.",
        true - norms + 2 * C * (H - G) * D: "Keys and values have 8 heads, not 32; and the norms "
        "have scales.",
        true - out: "The output projection is missing, 4096 x 4096.",
        true - mlp: "That is attention and norms. The MLP is most of a block.",
        mlp: "That is the MLP alone.",
        32 * true: "That is all 32 blocks; one is asked for.",
    }
    if answer == true:
        return right(
            f"{true:,}: the MLP holds {mlp / true:.0%} of it.",
            "32 of them, an embedding and a head of 128,256 x 4,096 each, and a last norm make "
            f"{32 * true + 2 * 128_256 * C + C:,}: the 8B of its name.",
        )
    return wrong(
        f"Expected the parameters of one block, got {answer:,}.",
        mistakes.get(answer, "Write down the shape of each matrix, rows x columns, and add up."),
    )


@exercise(
    "00.2",
    hints=[
        "Four lines: scores, mask, softmax, values.",
        "Token i sees the keys i - window + 1 to i: two borders, where causal attention has one.",
        "tril() keeps what lies on or below the diagonal; triu(1 - window) cuts off what lies too "
        "far below it.",
    ],
)
def window_head(answer: Any) -> Verdict:
    """A function (q, k, v, window), (T, D) each -> (T, D): causal attention within a window."""
    for T, width, window in ((5, 16, 2), (1, 4, 1), (7, 4, 3), (4, 8, 9)):
        q, k, v = torch.randn(
            3, T, width, dtype=torch.float64, generator=torch.Generator().manual_seed(T)
        )
        got = run(answer, q.clone(), k.clone(), v.clone(), window)
        if not isinstance(got, Tensor):
            return wrong(f"Expected a tensor, got {type(got).__name__}.", "Is there a return?")
        call = f"q, k and v of shape ({T}, {width}), window {window}"
        if got.shape != q.shape:
            return wrong(
                f"{call}: expected shape ({T}, {width}), got {tuple(got.shape)}.",
                "One vector comes out for each query, as long as a value.",
            )
        if not torch.allclose(got.double(), _head(q, k, v, _band(T, window)), atol=1e-6):
            why = _why_head(got.double(), q, k, v, window)
            return wrong(f"{call}: the numbers differ from the library's.", why)
    return right(
        "It agrees with the library for windows of 1, 2 and 3, and for one that holds all.",
        "With windows of w tokens a cache needs w keys only: lesson 02, exercise 2.",
    )


def _band(T: int, window: int) -> Tensor:
    """What each of T tokens sees: itself and the `window` - 1 before it."""
    return torch.ones(T, T, dtype=torch.bool).tril().triu(1 - window)


def _head(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float = 0.0) -> Tensor:
    return F.scaled_dot_product_attention(
        q[None], k[None], v[None], visible, scale=scale or q.shape[-1] ** -0.5
    )[0]


def _why_head(got: Tensor, q: Tensor, k: Tensor, v: Tensor, window: int) -> str:
    (T, width), band = q.shape, _band(len(q), window)
    scores = q @ k.T / math.sqrt(width)
    hidden = scores.masked_fill(~band, -torch.inf)
    mistakes = [
        (_head(q, k, v, band | band.T), "The window lies on both sides: a token "
         "must not see those after it."),
        (_head(q, k, v, torch.ones_like(band).tril()), "There is no window: the last token sees "
         "the first."),
        (_head(q, k, v, torch.ones_like(band).triu(1 - window)), "The future is not hidden: the "
         "first token sees the last."),
        (_head(q, k, v, torch.ones_like(band)), "There is no mask: the first token sees the last."),
        (_head(q, k, v, _band(T, window + 1)), "One key too many: the window counts the token "
         "itself."),
        (_head(q, k, v, _band(T, window - 1)), "One key too few: the window counts the token "
         "itself."),
        (_head(q, k, v, band, 1.0), "The scores are not divided by the root of the head dim."),
        (_head(q, k, v, band, 1 / width), "Divide by the root of the head dim, not by it."),
        (hidden.softmax(0).nan_to_num() @ v, "Each row sums to 1, not each column: softmax over "
         "the keys."),
        (scores.where(band, 0.0).softmax(-1) @ v, "A hidden score must be minus infinity: 0 still "
         "gets weight from the softmax."),
        (scores.softmax(-1) * band @ v, "Mask before the softmax: afterwards the rows no longer "
         "sum to 1."),
    ]  # fmt: skip
    for mistake, why in mistakes:
        if torch.allclose(got, mistake, atol=1e-6):
            return why
    if not bool(got.isfinite().all()):
        return "Some numbers are not finite: a row in which everything is hidden has no softmax."
    return "Compare one row: with a window of 2, token 4 sees the keys 3 and 4."


@exercise(
    "00.3",
    hints=[
        "looks_back(layer, head) is the mean weight on the token just before: try some by hand.",
        "There are 8 layers of 4 heads: two loops, or max over a list of all pairs.",
    ],
)
def previous_token_head(answer: Any) -> Verdict:
    """The (layer, head) that gives most weight to the token just before."""
    weights = _back()
    layers, heads = weights.shape
    whole = isinstance(answer, tuple | list) and all(isinstance(part, int) for part in answer)
    if not whole or len(answer) != 2:
        return wrong("Expected a pair (layer, head) of whole numbers.", "Such as (0, 0).")
    layer, head = answer
    if not (0 <= layer < layers and 0 <= head < heads):
        return wrong(
            f"There is no layer {layer} with head {head}.",
            f"Layers are 0 to {layers - 1}, heads 0 to {heads - 1}.",
        )
    best, found = float(weights.max()), float(weights[layer, head])
    if found == best:
        return right(
            f"Layer {layer}, head {head}: {found:.0%} of its weight is on the token just before.",
            "With it a later layer can find what followed the last time this word was written.",
        )
    return wrong(
        f"Layer {layer}, head {head} has {found:.0%} on the token just before; "
        f"{int((weights > found).sum())} of {weights.numel()} heads have more.",
        "Swapped? The layer comes first."
        if head < layers and layer < heads and float(weights[head, layer]) == best
        else "In the explorer such a head is a strong line below the diagonal.",
    )


def looks_back(layer: int, head: int) -> float:
    """Mean weight of a head on the token just before, over a held-out story.

    Raises:
        ValueError: no such layer or head.
    """
    L, H = _back().shape
    return float(_back()[whole("layer", layer, most=L - 1), whole("head", head, most=H - 1)])


@cache
def _back() -> Tensor:
    """`looks_back` of every head, (layers, H)."""
    model, tokenizer = load("stories", dtype=torch.float64)
    tokens = torch.tensor([encode(tokenizer, stories()[0])])
    return torch.stack(
        [
            attention_weights(seen.q, seen.k, None)[0].diagonal(-1, dim1=-2, dim2=-1).mean(-1)
            for seen in watch(model, tokens)
        ]
    )
