"""A forward pass, watched: what each part of the model saw of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minillm import Transformer
from minillm.tokens import encode, pieces
from minillm.transformer import Block

__all__ = ["LONGEST", "Pass", "Seen", "follow", "logit_parts", "watch"]

LONGEST = 24  # tokens of the reader's text whose labels a heat map of half the width can show
LIKELIEST = 4  # next tokens shown


@dataclass(frozen=True)
class Seen:
    """What one block computed.

    Attributes:
        q, k, v: what attention got, (B, H, T, D) and twice (B, G, T, D), positions turned in.
        middle: the residual stream between attention and MLP, (B, T, C).
        gate: the activated gate of the MLP, (B, T, F).
        out: the residual stream after the block, (B, T, C).
    """

    q: Tensor
    k: Tensor
    v: Tensor
    middle: Tensor
    gate: Tensor
    out: Tensor


@torch.no_grad()
def watch(model: Transformer, tokens: Tensor, mask: Tensor | None = None) -> tuple[Seen, ...]:
    """One forward pass of (B, T) tokens under a (T, T) mask, and what hooks saw in each block."""
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    seen: list[dict[str, Tensor]] = [{} for _ in blocks]
    hooks: list[Any] = []
    for block, here in zip(blocks, seen, strict=True):
        hooks += [
            block.attention.attend.register_forward_pre_hook(
                lambda _, given, here=here: here.update(zip("qkv", given, strict=False))
            ),
            block.mlp_norm.register_forward_pre_hook(
                lambda _, given, here=here: here.update(middle=given[0])
            ),
            block.mlp.act.register_forward_hook(
                lambda _, given, made, here=here: here.update(gate=made)
            ),
            block.register_forward_hook(lambda _, given, made, here=here: here.update(out=made)),
        ]
    try:
        model.hidden(tokens, mask=mask)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(Seen(**here) for here in seen)


@dataclass(frozen=True)
class Pass:
    """One text's forward pass, as the explorer needs it.

    Attributes:
        tokens, pieces: of the text, at most `LONGEST`.
        cut: whether the text was longer.
        layers: what each block computed.
        likeliest: the next tokens with their probabilities, the first one first.
        readings: what the head makes of the last token's stream, after the embedding and after
            each half of each layer: (token, probability).
        lengths: of the last token's stream, at these places.
        parts: what the embedding, and each half of each layer, adds to the likeliest next token's
            logit; their sum is the logit.
    """

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    cut: bool
    layers: tuple[Seen, ...]
    likeliest: tuple[tuple[str, float], ...]
    readings: tuple[tuple[str, float], ...]
    lengths: tuple[float, ...]
    parts: tuple[float, ...]


@torch.no_grad()
def follow(model: Transformer, tokenizer: Tokenizer, text: str) -> Pass:
    """Run the model once on the start of a text."""
    whole = encode(tokenizer, text)
    tokens = whole[:LONGEST]
    batch = torch.tensor([tokens], device=model.device)
    layers = watch(model, batch)
    streams = [model.embed(batch), *(x for layer in layers for x in (layer.middle, layer.out))]
    last = torch.stack([stream[0, -1] for stream in streams])  # (1 + 2 layers, C)
    best = model.head(model.norm(last)).softmax(-1).topk(LIKELIEST)
    parts = logit_parts(model, last, int(best.indices[-1, 0]))
    named = [
        tuple(zip(pieces(tokenizer, ids), found, strict=True))
        for ids, found in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return Pass(
        tokens=tuple(tokens),
        pieces=tuple(pieces(tokenizer, tokens)),
        cut=len(whole) > LONGEST,
        layers=layers,
        likeliest=named[-1],
        readings=tuple(row[0] for row in named),
        lengths=tuple(last.norm(dim=-1).tolist()),
        parts=tuple(parts.tolist()),
    )


@torch.no_grad()
def logit_parts(model: Transformer, stream: Tensor, token: int) -> Tensor:
    """Direct logit attribution: what each stretch of a residual stream adds to a token's logit.

    Given the scale of the last norm, norm and head are linear, so the parts add up to the logit
    exactly. Source: Elhage et al., A Mathematical Framework for Transformer Circuits, 2021.

    Args:
        stream: (P, C), one position's stream after each stretch; the last one goes to the head.

    Returns:
        (P,), in units of logits; the first one is what the stream begins with.
    """
    parts = stream.diff(dim=0, prepend=torch.zeros_like(stream[:1]))  # (P, C)
    scale = (stream[-1].square().mean() + model.norm.eps).sqrt()
    return parts @ (model.head.weight[token] * model.norm.weight) / scale
