"""The checks of lesson 14: blocks on a card, who reads how much, and the smallest pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from minillm.data.public_models import LLAMA_3_8B
from minillm.kv_cache import kv_bytes
from minillm.serving.blocks import Blocks
from minillm.serving.scheduler import Job, Scheduler
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["BUDGET", "CARD", "LLAMA_3_8B", "READERS", "check", "hint", "preemptions"]

CARD = 80 * 10**9  # bytes
WEIGHTS = 2 * 8_030_261_248  # bytes of Llama-3-8B in 16 bits
BLOCK, TEXT, CONTEXT = 16, 1000, 8192  # tokens
READERS = ((0, 21, 26), (0, 11, 30), (2, 21, 24), (4, 18, 24))  # step of arrival, prompt, budget
BUDGET = 32  # tokens that a step reads


@exercise(
    "14.1",
    hints=[
        "How many bytes are left once the weights are loaded, and how many does a token take?",
        "A block holds 16 tokens. A text of 1,000 tokens needs 63 blocks: the last is half empty.",
        "Reserved for the context, every text takes the room of 8,192 tokens.",
    ],
)
def texts_on_a_card(answer: Any) -> Verdict:
    """Texts of 1,000 tokens at a time on CARD: (in blocks of 16, reserved for the context)."""
    paged, reserved = answer
    token = kv_bytes(LLAMA_3_8B, 1, torch.float16)
    left = CARD - WEIGHTS
    blocks = left // (BLOCK * token)
    true = blocks // -(-TEXT // BLOCK), left // (CONTEXT * token)
    if (paged, reserved) == true:
        return right(
            f"{true[0]} texts in blocks, {true[1]} if each reserves the whole context.",
            f"That is {true[0] / true[1]:.1f} times as many: the batch that lesson 03 calls free.",
        )
    if paged == blocks // (TEXT // BLOCK):
        return wrong(f"{paged} texts in blocks is too many.", "62 blocks hold 992 tokens only.")
    if paged == CARD // (BLOCK * token) // -(-TEXT // BLOCK):
        return wrong(f"{paged} texts in blocks is too many.", "The weights need room as well.")
    if paged == blocks:
        return wrong(f"{paged:,} is the number of blocks.", "How many does a text need?")
    if paged != true[0]:
        return wrong(
            f"{paged} texts in blocks is not it.",
            f"{left:,} bytes are left; a block takes {BLOCK} x {token:,}.",
        )
    return wrong(
        f"{reserved} texts with the context reserved is not it.",
        "Each takes the room of 8,192 tokens, however short it is.",
    )


@exercise(
    "14.2",
    hints=[
        "Who has one token unread is decoding: it reads that one, whatever the budget is.",
        "What is left of the budget goes to the prompts, in order of arrival.",
        "A prompt reads min(unread, left); `left` never falls below 0.",
    ],
)
def chunked(answer: Any) -> Verdict:
    """A function (unread, budget) -> how many tokens each request reads in this step."""
    cases = (([1, 300, 1, 20], 64), ([1, 1, 1], 2), ([30, 40], 64), ([5, 1], 1), ([90, 1, 9], 100))
    for unread, budget in cases:
        got = run(answer, list(unread), budget)
        call = f"chunked({unread}, {budget})"
        if not isinstance(got, list | tuple):
            return wrong(f"Expected a list, got {type(got).__name__}.", "Is there a return?")
        true = _chunked(unread, budget)
        if list(got) != true:
            look = _why_chunked(list(got), true, unread, budget)
            return wrong(f"{call}: expected {true}, got {list(got)}.", look)
    return right(
        "Readers who decode never wait for a prompt, and a step has a bounded length.",
        "`Scheduler.plan` does the same, and makes room in the pool.",
    )


def _chunked(unread: Sequence[int], budget: int) -> list[int]:
    left = max(budget - sum(n == 1 for n in unread), 0)
    reads = []
    for n in unread:
        reads.append(1 if n == 1 else min(n, left))
        left -= 0 if n == 1 else reads[-1]
    return reads


def _why_chunked(got: list[Any], true: list[int], unread: Sequence[int], budget: int) -> str:
    if len(got) != len(unread):
        return "One number for each request, 0 for one that reads nothing."
    if got == list(unread):
        return "That is all of every prompt: the budget bounds a step."
    if any(n == 1 and g == 0 for n, g in zip(unread, got, strict=True)):
        return "A request with one unread token decodes: it must not wait for prompts."
    if sum(got) > max(budget, sum(n == 1 for n in unread)):
        return "The step reads more than its budget: tokens that decode count as well."
    if sum(got) == sum(true):
        return "Prompts are served in order of arrival: the first takes what it can."
    return "Decoding requests first, one token each; then prompts in order, within what is left."


@exercise(
    "14.3",
    hints=[
        "`preemptions(blocks, size)` serves the four requests with bookkeeping alone. Try values.",
        "The sum of all final lengths is enough, but not all are long at the same time.",
        "A loop over the number of blocks: the first one without a preemption.",
    ],
)
def smallest_pools(answer: Any) -> Verdict:
    """Blocks of the smallest pool without a preemption: (blocks of 8 tokens, blocks of 16)."""
    answer = tuple(int(n) for n in answer)
    if len(answer) != 2:
        return wrong(f"Expected two numbers, got {len(answer)}.", "Blocks of 8, and blocks of 16.")
    true = tuple(_smallest(size) for size in (8, 16))
    for blocks, least, size in zip(answer, true, (8, 16), strict=True):
        if blocks < _fitting(size):
            return wrong(f"{blocks} blocks of {size} do not hold the longest text.", "Try more.")
        if blocks < least:
            lost = preemptions(blocks, size)
            return wrong(f"With {blocks} blocks of {size}: {lost} preempted.", "It needs more.")
        if blocks > least:
            return wrong(f"{blocks} blocks of {size} are enough, but not the fewest.", "Try fewer.")
    tokens = [n * size for n, size in zip(true, (8, 16), strict=True)]
    return right(
        f"{tokens[0]} slots in blocks of 8, {tokens[1]} in blocks of 16.",
        "Larger blocks leave more slots empty; smaller ones make longer tables.",
    )


def _fitting(size: int) -> int:
    """Blocks for the longest text: with fewer it is refused."""
    return max(-(-(prompt + more) // size) for _, prompt, more in READERS)


def _smallest(size: int) -> int:
    return next(n for n in range(_fitting(size), 999) if preemptions(n, size) == 0)


def preemptions(blocks: int, size: int) -> int:
    """How often one of READERS is preempted in such a pool, nothing shared.

    Raises:
        ValueError: a pool that cannot hold the longest text.
    """
    scheduler = Scheduler(Blocks(blocks, size), budget=BUDGET, rows=len(READERS), share=False)
    coming, lost, step = list(enumerate(READERS)), 0, 0
    while coming or scheduler.waiting or scheduler.running:
        while coming and coming[0][1][0] <= step:
            number, (_, prompt, more) = coming.pop(0)
            scheduler.submit(Job(number, [0] * prompt, prompt + more))
        plan = scheduler.plan()
        lost, step = lost + len(plan.preempted), step + 1
        for job, count in plan.reads:
            job.table.length += count
            if not job.unread:
                job.text.append(0)
            if len(job.text) == job.longest:
                scheduler.finish(job)
    return lost
