"""Bugs of lesson `kv_cache`."""

from mutations.mutation import Mutation

__all__ = ["BUGS"]

BUGS = [
    Mutation(
        "truncate forgets one token too many",
        "kv_cache",
        "        self.lengths = wanted\n",
        "        self.lengths = tuple(max(length - 1, 0) for length in wanted)\n",
        "truncate_and_continue",
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
        "rows of a ragged batch written at one length",
        "kv_cache",
        "        if len(set(starts)) == 1:\n",
        "        if True:\n",
        "ragged_rows",
    ),
    Mutation(
        "kept rows left where they stood (constructed)",
        "kv_cache",
        "buffer[:, row, :, start : start + len(kept)] = buffer[:, row, :, source]",
        "buffer[:, row, :, source] = buffer[:, row, :, source]",
        "kept_rows",
    ),
]
