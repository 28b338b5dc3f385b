"""Bugs that implementations of this kind have had, as patches of our source.

Each names the module, the text it replaces, and the oracle of `oracles.py` that must notice. Most
are cases of public code (see the notes of the project's reference on KV caches); those that are
not are marked "constructed".
"""

from dataclasses import dataclass

from minillm.speculative.bug_gallery import Patch

__all__ = ["BUGS", "Mutation"]


@dataclass(frozen=True)
class Mutation(Patch):
    """A patch that `oracle` must notice."""

    oracle: str


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
        "truncate forgets one token too many",
        "kv_cache",
        "        self.lengths = wanted\n",
        "        self.lengths = tuple(max(length - 1, 0) for length in wanted)\n",
        "truncate_and_continue",
    ),
    Mutation(
        "the decoder truncates one token too many",
        "decoding",
        "[length - 1 for length in batch.lengths]",
        "[max(length - 2, 0) for length in batch.lengths]",
        "step_invariants",
    ),
    Mutation(
        "the token just written is left out of what is read (TinyTorch)",
        "kv_cache",
        "return keys[:, :, :S], values[:, :, :S]",
        "return keys[:, :, : S - 1], values[:, :, : S - 1]",
        "one_by_one",
    ),
    Mutation(
        "the first token's keys are never written (TinyTorch)",
        "kv_cache",
        "            keys[:, :, S - T : S] = k\n",
        "            keys[:, :, max(S - T, 1) : S] = k[:, :, max(1 + T - S, 0) :]\n",
        "one_by_one",
    ),
    Mutation(
        "the last token's values are not written",
        "kv_cache",
        "            values[:, :, S - T : S] = v\n",
        "            values[:, :, S - T : S - 1] = v[:, :, :-1]\n",
        "one_by_one",
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
        "rows of a ragged batch written at one length",
        "kv_cache",
        "        if len(set(starts)) == 1:\n",
        "        if True:\n",
        "ragged_rows",
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
        "attention",
        "positions = torch.tensor(cached)[:, None] + torch.arange(T)",
        "positions = torch.tensor(cached)[:, None] * 0 + max(cached) + torch.arange(T)",
        "ragged_rows",
    ),
    Mutation(
        "logits of the padding, not of the row's last token",
        "decoding",
        "last = torch.tensor(counts, device=hidden.device) - 1",
        "last = torch.tensor(counts, device=hidden.device) * 0 - 1",
        "rows_alone",
    ),
    Mutation(
        "ended row not rolled back",
        "decoding",
        "[length - 1 for length in batch.lengths]",
        "[\n            n if ended and forwards > 1 else length - 1\n"
        "            for n, ended, length in "
        "zip(list(cache.lengths), batch.ended, batch.lengths, strict=True)\n        ]",
        "step_invariants",
    ),
    Mutation(
        "sampler draws for ended rows",
        "batch",
        "unused if ended else self.uniforms(b, 1)",
        "self.uniforms(b, 1)",
        "rows_alone",
    ),
    Mutation(
        "one uniform for all rows (feifeibear, over positions)",
        "batch",
        "return torch.cat(rows)",
        "return torch.cat(rows[:1]).expand(len(rows))",
        "rows_alone",
    ),
    Mutation(
        "a stop token ends a row one step late (constructed)",
        "batch",
        "self.ended[b] = token in self._stop or",
        "self.ended[b] = self.texts[b][-2] in self._stop or",
        "step_invariants",
    ),
    Mutation(
        "cumulative distribution compared with <, not <= (constructed)",
        "sampling",
        "(cumulative <= threshold.unsqueeze(-1))",
        "(cumulative < threshold.unsqueeze(-1))",
        "picks_inverse_cdf",
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
        "kept rows left where they stood (constructed)",
        "kv_cache",
        "buffer[:, row, :, start : start + len(kept)] = buffer[:, row, :, source]",
        "buffer[:, row, :, source] = buffer[:, row, :, source]",
        "kept_rows",
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
        "bonus token from the distribution at the last guess",
        "speculative.verification",
        "behind = p[-1] if",
        "behind = p[-2] if",
        "verified_law",
    ),
    Mutation(
        "guesses accepted behind a rejected one (constructed)",
        "speculative.verification",
        "kept.cumprod(0).sum()",
        "kept.sum()",
        "verified_law",
    ),
    Mutation(
        "acceptance halved, residual not (constructed)",
        "speculative.verification",
        " < p[:-1].gather(1, at)[:, 0]",
        " < p[:-1].gather(1, at)[:, 0] * 0.5",
        "verified_law",
    ),
    Mutation(
        "accepted where the target has no mass: u q <= p at u = 0 (constructed)",
        "speculative.verification",
        " < p[:-1].gather(1, at)[:, 0]",
        " <= p[:-1].gather(1, at)[:, 0]",
        "edges_of_u",
    ),
    Mutation(
        "NaN where p equals q (jaymody/speculative-sampling#5)",
        "speculative.verification",
        "torch.where(total > 0, more / total, p)",
        "more / total",
        "no_residual",
    ),
    Mutation(
        "no bonus token (constructed)",
        "speculative.decode",
        "    tokens = (*guesses[:accepted], token)\n",
        "    whole = guesses and accepted == len(guesses)\n"
        "    tokens = guesses if whole else (*guesses[:accepted], token)\n",
        "a_perfect_draft",
    ),
    Mutation(
        "the draft's uniforms judge its guesses too (constructed)",
        "speculative.decode",
        "u[b][n:], sampler)",
        "u[b], sampler)",
        "decoded_law",
    ),
    Mutation(
        "temperature and top-p shape the draft only (vllm#10198)",
        "speculative.decode",
        "verify(sampler.probabilities(logits), q, at, u)",
        "verify(logits.double().softmax(-1), q, at, u)",
        "shaped_law",
    ),
    Mutation(
        "q before top-p, guesses after it (DeepSpec#31)",
        "speculative.drafters",
        "q, tokens = sampler.draw(logits, now)",
        "q, tokens = logits.double().softmax(-1), sampler.draw(logits, now)[1]",
        "drawn_law",
    ),
    Mutation(
        "a copied token claimed to come from an even distribution (constructed)",
        "speculative.prompt_lookup",
        "return Proposal(tuple(guesses), one_hot(tokens, self._vocabulary).double())",
        "one = one_hot(tokens, self._vocabulary).double()\n"
        "        return Proposal(tuple(guesses), 0 * one + 1 / self._vocabulary)",
        "copied_law",
    ),
    Mutation(
        "draft cache not rewound (vllm#9730)",
        "speculative.drafters",
        "        self.cache.truncate([min(n, len(text) - 1) "
        "for n, text in zip(held, texts, strict=True)])\n",
        "        pass\n",
        "caches_of_rounds",
    ),
    Mutation(
        "draft cache rewound two tokens too many (lablup/mlxcel#994)",
        "speculative.drafters",
        "min(n, len(text) - 1) for",
        "max(min(n, len(text) - 1) - 2, 0) for",
        "caches_of_rounds",
    ),
    Mutation(
        "draft never reads the guess behind which all were accepted",
        "speculative.drafters",
        "list(texts[b][held[b] :]) if counts[b]",
        "list(texts[b][held[b] and len(texts[b]) - 1 :]) if counts[b]",
        "caches_of_rounds",
    ),
    Mutation(
        "target cache rewound to the shortest row's acceptance (constructed)",
        "speculative.decode",
        "            cache.truncate(held)\n",
        "            read = list(cache.lengths)\n"
        "            over = max(n - m for n, m in zip(read, held, strict=True))\n"
        "            held = tuple(max(n - over, 0) for n in read)\n"
        "            cache.truncate(held)\n",
        "caches_of_rounds",
    ),
    Mutation(
        "padding of ragged rows stays in the cache",
        "decoding",
        "if any(len(row) < T for row in rows):",
        "if False:",
        "caches_of_rounds",
    ),
    Mutation(
        "guesses beyond the budget (feifeibear)",
        "speculative.decode",
        "max(min(rule.choose(accepted, judged), room - 1), 0)",
        "max(min(rule.choose(accepted, judged), room), 0)",
        "speculates_by_hand",
    ),
    Mutation(
        "ended rows draw numbers",
        "speculative.decode",
        "0 if batch.ended[b] else 2 * n + 1",
        "2 * n + 1",
        "speculates_by_hand",
    ),
    Mutation(
        "guesses behind a rejection count as rejected (constructed)",
        "speculative.decode",
        "return min(self.accepted + 1, len(self.guesses))",
        "return len(self.guesses)",
        "ends_in_blocks",
    ),
    Mutation(
        "the end of the text matches itself",
        "speculative.prompt_lookup",
        "for start in range(len(text) - n - 1, -1, -1):",
        "for start in range(len(text) - n, -1, -1):",
        "lookups",
    ),
    Mutation(
        "a full match of a guess is cut by one (LookaheadDecoding)",
        "lookahead.verification",
        "        if agreed >= len(places):\n",
        "        agreed = min(agreed, len(guess) - 1)\n        if agreed >= len(places):\n",
        "a_perfect_pool",
    ),
    Mutation(
        "history of another guess than the committed one (LookaheadDecoding, line 1175)",
        "lookahead.decode",
        "        self._pool.add_text(self._batch.texts[self._b][-(taken + self._pool.n - 1) :])\n",
        "        text = self._batch.texts[self._b]\n"
        "        hit = guesses[(len(path) - 1) % len(guesses)] if best is not None else path\n"
        "        history = [*text[: len(text) - taken], *hit][: len(text)]\n"
        "        self._pool.add_text(history[-(taken + self._pool.n - 1) :])\n",
        "parallel_by_hand",
    ),
    Mutation(
        "mask of a pass over a cache aligned top left (flash-attn before 2.1)",
        "attention",
        "mask = torch.cat((past, mask), dim=-1)",
        "mask = torch.cat((mask, past), dim=-1)",
        "paths_of_a_pass",
    ),
    Mutation(
        "the window sees guesses (constructed)",
        "lookahead.mask",
        "~guess[me] & ~guess[other] & (before | own_column)",
        "~guess[me] & (before | own_column)",
        "paths_of_a_pass",
    ),
    Mutation(
        "guesses see the window's first line (constructed)",
        "lookahead.mask",
        "(line[other] == 0) & (column[other] == 0)",
        "(line[other] == 0)",
        "paths_of_a_pass",
    ),
    Mutation(
        "a guess sees the guesses before it (constructed)",
        "lookahead.mask",
        "(line[other] == line[me]) & (column[other] <= column[me])",
        "(line[other] <= line[me]) & (column[other] <= column[me])",
        "lookahead_mask",
    ),
    Mutation(
        "a line of the window sees the columns before its own (constructed)",
        "lookahead.mask",
        "own_column = (column[other] == column[me])",
        "own_column = (column[other] <= column[me])",
        "lookahead_mask",
    ),
    Mutation(
        "guesses stand one place too early (constructed)",
        "lookahead.mask",
        "torch.where(guess, 1 + column, line + column)",
        "torch.where(guess, column, line + column)",
        "paths_of_a_pass",
    ),
    Mutation(
        "all lines of the window stand where the first does (constructed)",
        "lookahead.mask",
        "torch.where(guess, 1 + column, line + column)",
        "torch.where(guess, 1 + column, column)",
        "paths_of_a_pass",
    ),
    Mutation(
        "padding of short rows at the front (constructed)",
        "lookahead.reads",
        "[[*row, *[0] * (T - len(row))] for row in rows]",
        "[[*[0] * (T - len(row)), *row] for row in rows]",
        "paths_of_a_pass",
    ),
    Mutation(
        "the first guess is kept, not the best (constructed)",
        "lookahead.reads",
        "self.first_guess + self.length * (best or 0)",
        "self.first_guess",
        "parallel_caches",
    ),
    Mutation(
        "the guessed token behind the accepted ones is kept (constructed)",
        "lookahead.reads",
        "*range(start, start + accepted)]",
        "*range(start, min(start + accepted + 1, start + self.length))]",
        "parallel_caches",
    ),
    Mutation(
        "tokens behind a wrong one count as right (constructed)",
        "speculative.verification",
        "accepted = [*agreed, False].index(False)",
        "accepted = sum(agreed)",
        "parallel_law",
    ),
    Mutation(
        "the first guess with a right token is taken, not the longest (constructed)",
        "lookahead.verification",
        "if agreed >= len(places):",
        "if best is None and agreed >= len(places):",
        "a_perfect_pool",
    ),
    Mutation(
        "the number of a place is that of the place before (constructed)",
        "lookahead.decode",
        "[*range(1, 1 + length)]",
        "[*range(length)]",
        "parallel_law",
    ),
    Mutation(
        "guesses beyond the budget in a pass (constructed)",
        "lookahead.decode",
        "guess[: room - 1] for",
        "guess for",
        "parallel_by_hand",
    ),
    Mutation(
        "the prompt is read in a pass that is not counted (constructed)",
        "lookahead.decode",
        "            hidden = forward_passes(model, passes, cache)  # (B, T, C)\n",
        "            if forwards == 1:\n"
        "                prompts = [Pass(window=[read.unread]) for read in passes]\n"
        "                forward_passes(model, prompts, cache)\n"
        "                cache.truncate([len(read.unread) for read in passes])\n"
        "                passes = [read._replace(unread=()) for read in passes]\n"
        "            hidden = forward_passes(model, passes, cache)\n",
        "parallel_agrees",
    ),
    Mutation(
        "the window's new first line keeps what the newest token replaces (constructed)",
        "lookahead.window",
        "self._lines = [lines[1][1:], *lines[2:]]",
        "self._lines = [lines[1][:-1], *lines[2:]]",
        "parallel_by_hand",
    ),
    Mutation(
        "n-grams without their first token, with what was chosen twice (constructed)",
        "lookahead.window",
        "zip(*lines, strict=True)",
        "zip(*lines[1:], lines[-1], strict=True)",
        "parallel_by_hand",
    ),
    Mutation(
        "the pool forgets what was met first, met again or not (constructed)",
        "lookahead.pool",
        "if other != rest]\n        self._behind[key] = [*met, rest][-self.bound :]",
        "]\n        if rest not in met:\n"
        "            self._behind[key] = [*met, rest][-self.bound :]",
        "parallel_by_hand",
    ),
    Mutation(
        "numbers belong to passes, not to places (constructed)",
        "jacobi",
        "noise.spend(taken)",
        "noise.spend(len(chosen))",
        "parallel_agrees",
    ),
    Mutation(
        "new numbers in every pass (constructed)",
        "batch",
        "        if (missing := count",
        "        self._drawn = self._drawn[:0]\n        if (missing := count",
        "parallel_agrees",
    ),
    Mutation(
        "one number for all places (constructed)",
        "batch",
        "return self._drawn[:count]",
        "return self._drawn[:1].expand(count)",
        "parallel_law",
    ),
    Mutation(
        "the first changed token of a block waits for another pass (constructed)",
        "jacobi",
        "taken = batch.extend(b, chosen[:settled])",
        "taken = batch.extend(b, chosen[: max(settled - 1, 1)])",
        "parallel_by_hand",
    ),
    Mutation(
        "the token behind the first changed one is committed too (constructed)",
        "jacobi",
        "    settled = 1  #",
        "    settled = min(2, len(chosen))  #",
        "parallel_law",
    ),
    Mutation(
        "every pass starts from the block's first guess (constructed)",
        "jacobi",
        "list(rows[b].after[len(rows[b].tokens) :])",
        "list(rows[b].before[len(rows[b].tokens) :])",
        "parallel_by_hand",
    ),
    Mutation(
        "keys of a wrong guess stay in the cache (CLLM must delete false keys)",
        "jacobi",
        "            cache.truncate(held)\n",
        "            read = zip(list(cache.lengths), batch.lengths, strict=True)\n"
        "            held = tuple(min(pair) for pair in read)\n"
        "            cache.truncate(held)\n",
        "parallel_caches",
    ),
]
