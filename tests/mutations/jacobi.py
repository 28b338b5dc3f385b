"""Bugs of lesson `jacobi`."""

from mutations.mutation import Mutation

__all__ = ["BUGS"]

BUGS = [
    Mutation(
        "numbers belong to passes, not to places (constructed)",
        "jacobi",
        "noise.spend(taken)",
        "noise.spend(len(chosen))",
        "parallel_agrees",
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
