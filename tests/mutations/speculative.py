"""Bugs of lesson `speculative`."""

from mutations.mutation import Mutation

__all__ = ["BUGS"]

BUGS = [
    Mutation(
        "bonus token from the distribution at the last guess",
        "speculative.verification",
        "last = p[-1] if",
        "last = p[-2] if",
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
        "tokens behind a wrong one count as right (constructed)",
        "speculative.verification",
        "accepted = [*agreed, False].index(False)",
        "accepted = sum(agreed)",
        "parallel_law",
    ),
]
