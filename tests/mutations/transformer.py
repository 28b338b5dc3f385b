"""Bugs of lesson `transformer`."""

from mutations.mutation import Mutation

__all__ = ["BUGS"]

BUGS = [
    Mutation(
        "chunk of a prefill aligned top left",
        "attention",
        "dtype=torch.bool, device=device).tril(S - T)",
        "dtype=torch.bool, device=device).tril()",
        "chunked_prefill",
    ),
    Mutation(
        "chunk of a prefill left to is_causal, which aligns top left",
        "attention",
        "        if mask is None and T < k.shape[2]:\n",
        "        if False:\n",
        "chunked_prefill",
    ),
    Mutation(
        "stale slots visible",
        "attention",
        "among_new & (new < T)[:, None]",
        "among_new",
        "stale_slots",
    ),
    Mutation(
        "stale slots masked where the key is zero",
        "attention",
        "            k, v = cache.append(self.layer, k, v)  # (B, G, S, D)\n",
        "            k, v = cache.append(self.layer, k, v)\n"
        "            S = k.shape[2]\n"
        "            causal = torch.ones(x.shape[1], S, dtype=torch.bool).tril(S - x.shape[1])\n"
        "            mask = (k[:, :1, None] != 0).any(-1) & causal\n",
        "stale_slots",
    ),
    Mutation(
        "position from a counter that truncate does not roll back",
        "transformer",
        "        rotation = self.rotary(cached, tokens.shape[1], positions)\n",
        "        seen = getattr(cache, 'seen', 0)\n"
        "        rotation = self.rotary([seen], tokens.shape[1], positions)\n"
        "        if cache is not None:\n"
        "            cache.seen = seen + tokens.shape[1]\n",
        "truncate_and_continue",
    ),
    Mutation(
        "key/value heads tiled instead of repeated",
        "attention",
        "    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:\n",
        "    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:\n"
        "        k, v = (x.tile(1, q.shape[1] // k.shape[1], 1, 1) for x in (k, v))\n",
        "attend_by_hand",
    ),
    Mutation(
        "key/value heads tiled in the weights that are shown",
        "attention",
        '    k = repeat(k, "b g s d -> b (g n) s d"',
        '    k = repeat(k, "b g s d -> b (n g) s d"',
        "attend_by_hand",
    ),
    Mutation(
        "rows of a ragged batch masked by one length",
        "attention",
        "longest, equal = max(cached), len(set(cached)) == 1",
        "longest, equal = max(cached), True",
        "ragged_rows",
    ),
    Mutation(
        "rows of a ragged batch rotated by one length",
        "rotary",
        "positions = torch.tensor(cached)[:, None] + torch.arange(T)",
        "positions = torch.tensor(cached)[:, None] * 0 + max(cached) + torch.arange(T)",
        "ragged_rows",
    ),
    Mutation(
        "lengths advanced before the pass is complete (constructed)",
        "transformer",
        "        for block in self.blocks:\n"
        "            x = block(x, rotation, visible, cache)\n"
        "        if cache is not None:\n"
        "            cache.advance(tokens.shape[1])\n",
        "        for block in self.blocks:\n"
        "            norm = block.attention_norm(x)\n"
        "            x = x + block.attention(norm, rotation, visible, cache)\n"
        "            if cache is not None and block is self.blocks[-1]:\n"
        "                cache.advance(tokens.shape[1])\n"
        "            x = x + block.mlp(block.mlp_norm(x))\n",
        "interrupted_forward",
    ),
    Mutation(
        "a guess sees all guesses before it, of other branches too",
        "attention",
        "    if mask is None:\n        if equal:\n            return None\n",
        "    if True:\n        if equal:\n            return None\n",
        "tree_of_guesses",
    ),
    Mutation(
        "a guess stands where it is stored, not at its depth",
        "transformer",
        "self.rotary(cached, tokens.shape[1], positions)",
        "self.rotary(cached, tokens.shape[1], None)",
        "tree_of_guesses",
    ),
    Mutation(
        "mask of a pass over a cache aligned top left (flash-attn before 2.1)",
        "attention",
        "mask = torch.cat((past, mask), dim=-1)",
        "mask = torch.cat((mask, past), dim=-1)",
        "paths_of_a_pass",
    ),
]
