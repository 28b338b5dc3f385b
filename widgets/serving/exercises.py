"""The checks of lesson 14: blocks on a card, the order of a queue, and the smallest pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from minillm.data.public_models import LLAMA_3_8B
from minillm.kv_cache import kv_bytes
from minillm.serving.blocks import Blocks
from minillm.serving.scheduler import Job, Scheduler
from widgets.common.exercises import Verdict, check, exercise, hint, right, wrong

__all__ = ["BUDGET", "CARD", "LLAMA_3_8B", "READERS", "check", "hint", "preemptions", "steps"]

CARD = 80 * 10**9  # bytes
WEIGHTS = 2 * 8_030_261_248  # bytes of Llama-3-8B in 16 bits
BLOCK, TEXT, CONTEXT = 16, 1000, 8192  # tokens
READERS = ((0, 21, 26), (0, 11, 30), (2, 21, 24), (4, 18, 24))  # step of arrival, prompt, budget
BUDGET = 32  # tokens that a step reads
WISHES, LONGEST, ROWS = 12, 40, 4  # 14.2: requests, the most that one may want, rows
MIXED = 2.5  # times as many steps in static batches


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
        "A static batch takes as long as its longest wish. When does none of its rows wait?",
        "If each batch has wishes of one length, no row waits: `grouped` wants neighbours alike.",
        "In `mixed` one long wish in each batch is enough to make every batch long. How many long "
        "wishes do both orders need?",
    ],
)
def orders(answer: Any) -> Verdict:
    """Twelve wishes in two orders: (static batches lose nothing, they take MIXED times as long)."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two lists: (grouped, mixed).")
    grouped, mixed = ([int(wish) for wish in wishes] for wishes in answer)
    for name, wishes in {"grouped": grouped, "mixed": mixed}.items():
        if len(wishes) != WISHES or not 1 <= min(wishes) <= max(wishes) <= LONGEST:
            return wrong(f"{name}: expected {WISHES} wishes from 1 to {LONGEST}, got {wishes}.")
    if sorted(grouped) != sorted(mixed):
        return wrong("The two lists hold different wishes.", "Only the order may differ.")
    (waits, best), (static, continuous) = steps(grouped), steps(mixed)
    if len(set(grouped)) == 1:
        return wrong(
            "All wishes are equal: the order changes nothing.",
            "Where no row waits, nothing can be gained. Make some wishes long.",
        )
    if waits > best:
        rows, idle = _most_idle(grouped)
        look = f"In the batch {rows} rows wait {idle} steps in all. Which wishes belong together?"
        look = "The orders are exchanged." if static == continuous else look
        return wrong(f"grouped: {waits} steps in static batches, {best} continuously.", look)
    if static < MIXED * continuous:
        long = sum(max(rows) > LONGEST / 2 for rows in _batches(mixed))
        look = f"{long} of {len(_batches(mixed))} batches have a wish above {LONGEST // 2}. " + (
            "Let each one have a long wish, among short ones."
            if long < len(_batches(mixed))
            else "Make the short ones shorter, or fewer of them long."
        )
        return wrong(f"mixed: {static} steps in static batches, {continuous} continuously.", look)
    return right(
        f"The same wishes: {waits} and {best} steps grouped, {static} and {continuous} mixed.",
        "Unequal wishes alone cost nothing: unequal neighbours do. Who knew the lengths could sort "
        "them; continuous batching need not know.",
    )


def steps(wishes: Sequence[int]) -> tuple[int, int]:
    """Steps that these wishes take on ROWS rows: (static batches, continuous batching).

    All wait from the start, behind prompts of one token, and in their order.
    """
    scheduler = Scheduler(Blocks(ROWS, LONGEST + 1), budget=ROWS, rows=ROWS, share=False)
    continuous, _ = _serve(scheduler, [(0, 1, wish) for wish in wishes])
    return sum(map(max, _batches(wishes))), continuous


def _batches(wishes: Sequence[int]) -> list[Sequence[int]]:
    return [wishes[start : start + ROWS] for start in range(0, len(wishes), ROWS)]


def _most_idle(wishes: Sequence[int]) -> tuple[Sequence[int], int]:
    """The batch that idles most before the last one, and for how many steps of a row."""
    idle = [(len(rows) * max(rows) - sum(rows), rows) for rows in _batches(wishes)[:-1]]
    most, rows = max(idle, key=lambda pair: pair[0])
    return rows, most


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
    return _serve(scheduler, READERS)[1]


def _serve(scheduler: Scheduler, readers: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """Steps until all (step of arrival, prompt, wish) are served, and how many were preempted."""
    coming, lost, step = list(enumerate(readers)), 0, 0
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
    return step, lost
