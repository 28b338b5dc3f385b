"""Bugs of lesson `decoding`."""

from mutations.mutation import Mutation

__all__ = ["BUGS"]

BUGS = [
    Mutation(
        "the decoder truncates one token too many",
        "decoding",
        "[length - 1 for length in batch.lengths]",
        "[max(length - 2, 0) for length in batch.lengths]",
        "step_invariants",
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
        "padding of ragged rows stays in the cache",
        "ragged",
        "if any(len(row) < T for row in rows):",
        "if False:",
        "caches_of_rounds",
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
]
