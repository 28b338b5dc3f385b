"""The block table live: whose blocks are where, step by step of a real run.

A request is a row: the blocks of its table, in the order of its text. The pool is a grid: the same
blocks, in the order of memory. A film reads a `Record` and computes nothing but sums.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import ipywidgets

from minillm import Transformer
from minillm.serving import Engine
from minillm.serving.record import Moment, Record
from minillm.serving.replay import one_each, serve
from minillm.serving.workload import Asked
from widgets.common.controls import numbers
from widgets.common.drawing.film import Cell, Change, Film, Grid, Lane, Lanes, Number
from widgets.common.player import FilmExplorer
from widgets.common.strings import say

__all__ = ["BlockTableExplorer", "name_of", "names", "tables_film", "verb"]

_WIDE = 8  # blocks of the pool in a row
_POOLS = (128, 160, 192)  # tokens


class BlockTableExplorer(FilmExplorer):
    """Requests that share a pool of blocks, served anew at every change of a control.

    Args:
        model: what serves them.
        asked: the requests; `at` counts steps.
    """

    def __init__(self, model: Transformer, asked: Sequence[Asked]):
        self._model, self._asked = model, asked
        super().__init__(
            {
                "pool": numbers("pool (tokens)", _POOLS, _POOLS[0]),
                "size": numbers("block (tokens)", (4, 8, 16), 8),
                "share": ipywidgets.Checkbox(True, description="share known beginnings"),
            }
        )

    def film(self) -> Film:
        count = self["pool"] // self["size"]
        options = {"size": self["size"], "budget": 32, "share": self["share"]}
        engine = Engine(self._model, blocks=count, **options)
        self._record = serve(engine, self._asked, one_each)
        return tables_film(
            self._record, count, self["size"], self._model.config.max_position_embeddings
        )

    def opening(self, film: Film) -> int:
        """The step after the first preemption; without any, the one with most requests."""
        moments = self._record.moments
        lost = [i for i, moment in enumerate(moments) if moment.step.preempted]
        crowded = max(range(film.steps), key=lambda i: len(moments[i].tables))
        return min([*lost[:1], *[crowded] * (not lost)])

    def summary(self) -> str:
        moments = self._record.moments
        lost = sum(len(moment.step.preempted) for moment in moments)
        shared = sum(_shared_tokens(moments))
        return (
            f"{len(self._asked)} requests, {self['pool'] // self['size']} blocks of "
            f"{self['size']} tokens: {len(moments)} steps, preemptions: {lost}, tokens found in "
            f"blocks of known beginnings: {shared} ({say('tag.computed')})."
        )


def name_of(number: int) -> str:
    """What a request is called: A, B, C, ..."""
    return chr(ord("A") + number)


def tables_film(record: Record, count: int, size: int, context: int) -> Film:
    """The block tables of a run, and the pool.

    Args:
        record: of `serve`, its clock `one_each`.
        count: blocks of the pool.
        size: tokens of a block.
        context: slots that a contiguous cache would reserve for each request.
    """
    moments = record.moments
    lanes = tuple(_lane(number, record, size) for number in record.requests)
    return Film(
        title="The block table, live",
        hint="A row is a request: the numbers are its blocks, in the order of its text. Hover a "
        "block to see where it lies in the pool.",
        captions=tuple(" ".join(_told(record, i)) for i in range(len(moments))),
        panels=(
            Lanes(lanes, title="Block tables"),
            _pool(moments, count),
            Lanes((_free_list(moments, count),), title="Free list", share=4),
        ),
        numbers=(
            Number("blocks of running requests", _held(moments, count), "computed"),
            Number("of their slots empty", tuple(_empty(m, size) for m in moments), "computed"),
            Number(
                f"empty at {context} slots each",
                tuple(_reserved(moment, context) for moment in moments),
                "computed",
            ),
            Number(
                "tokens not read again",
                tuple(str(sum(found)) for found in _so_far(_shared_tokens(moments))),
                "computed",
            ),
        ),
    )


def _so_far(values: Sequence[int]) -> Iterator[Sequence[int]]:
    return (values[: i + 1] for i in range(len(values)))


def _lane(number: int, record: Record, size: int) -> Lane:
    """A request's blocks; those that a preemption took stay as what they are, thrown away."""
    moments = record.moments
    cells: list[Cell] = []
    for start, end in _stays(number, moments):
        after = _left(number, moments, end)
        for i, block in enumerate(moments[end - 1].tables[number][0]):
            states = [
                (step, _state(moments[step], number, i, size))
                for step in range(start, end)
                if i < len(moments[step].tables[number][0])
            ]
            history = [Change(*first) for first in states[:1]]
            history += [Change(*b) for a, b in pairwise(states) if a[1] != b[1]]
            tip = f"block {block}: tokens {i * size + 1} to {(i + 1) * size} of {name_of(number)}"
            cells.append(Cell(str(block), (*history, *after), link=f"block {block}", tip=tip))
    notes = tuple(_note(number, record, i) for i in range(len(moments)))
    return Lane(name_of(number), tuple(cells), notes=notes)


def _stays(number: int, moments: Sequence[Moment]) -> Iterator[tuple[int, int]]:
    """From, up to: the moments at which a request runs."""
    here = [False, *(number in moment.tables for moment in moments), False]
    edges = [i for i, (a, b) in enumerate(pairwise(here)) if a != b]
    return zip(edges[::2], edges[1::2], strict=True)


def _left(number: int, moments: Sequence[Moment], end: int) -> tuple[Change, ...]:
    """What its blocks are to a request that runs no more."""
    if end == len(moments):
        return ()
    if number in moments[end].step.preempted:
        return (Change(end, "wasted"),)
    return (Change(end, "free", ""),)


def _state(moment: Moment, number: int, i: int, size: int) -> str:
    """Of the i-th block of a request."""
    blocks, length = moment.tables[number]
    if (i + 1) * size > length - moment.step.reads.get(number, 0) and i * size < length:
        return "computed"
    return "shared" if len(_owners(moment, blocks[i])) > 1 else "held"


def _owners(moment: Moment, block: int) -> list[int]:
    return [number for number, (blocks, _) in moment.tables.items() if block in blocks]


def _pool(moments: Sequence[Moment], count: int) -> Grid:
    cells = [_pooled(block, moments) for block in range(count)]
    cells += [Cell("", ())] * (-count % _WIDE)
    rows = tuple(tuple(cells[i : i + _WIDE]) for i in range(0, len(cells), _WIDE))
    return Grid(rows, title="The pool: who holds each block", share=8)


def _pooled(block: int, moments: Sequence[Moment]) -> Cell:
    seen = [_seen(block, moment) for moment in moments]
    history = [Change(0, *seen[0])]
    history += [
        Change(step, *now) for step, (before, now) in enumerate(pairwise(seen), 1) if now != before
    ]
    return Cell(str(block), tuple(history), link=f"block {block}", tip=f"block {block}")


def _seen(block: int, moment: Moment) -> tuple[str, str]:
    """A block's state in the pool, and its number with its holders."""
    owners = _owners(moment, block)
    text = f"{block} {''.join(map(name_of, owners))}".strip()
    if len(owners) > 1:
        return "shared", text
    if owners:
        return "held", text
    return ("remembered" if block in moment.remembered else "free"), text


def _free_list(moments: Sequence[Moment], count: int) -> Lane:
    """The blocks that nobody holds, by number; the list grows and shrinks."""
    lists = [[b for b in range(count) if _seen(b, m)[0] == "free"] for m in moments]
    cells = []
    for place in range(max(map(len, lists))):
        shown = [(step, free[place : place + 1]) for step, free in enumerate(lists)]
        kept = [*shown[:1], *(b for a, b in pairwise(shown) if a[1] != b[1])]
        history = tuple(
            Change(step, "held", str(block[0])) if block else Change(step, "free", "")
            for step, block in kept
        )
        cells.append(Cell("", history))
    return Lane("free", tuple(cells), notes=tuple(f"{len(free)} free" for free in lists),
                prose=True)  # fmt: skip


def _note(number: int, record: Record, i: int) -> str:
    """What a request does in a step."""
    moment, served = record.moments[i], record.requests[number]
    if served.asked.at > moment.start:
        return "not here yet"
    if number in moment.step.ended:
        return "ended"
    if number in moment.step.preempted:
        return "preempted"
    if number in moment.prefill:
        return f"reads {moment.prefill[number]}"
    if number in moment.decode:
        return f"writes, {moment.tables[number][1]} cached"
    return "gone" if served.times[-1] <= moment.start else "waits"


def _told(record: Record, i: int) -> Iterator[str]:
    """What happens in a step, in sentences."""
    moment = record.moments[i]
    before = record.moments[i - 1] if i else None
    since = before.start if before else -1.0
    arrived = [n for n, r in record.requests.items() if since < r.asked.at <= moment.start]
    if arrived:
        yield f"{names(arrived)} {verb(arrived, 'arrives')}."
    for number in moment.step.preempted:
        yield (
            f"No block is left: {name_of(number)}, the newest, gives back all of its own and will "
            "read its text again."
        )
    for number, count in moment.prefill.items():
        found = _found(moment, before, number)
        known = f" finds {found} tokens in known blocks and" if found else ""
        yield f"{name_of(number)}{known} reads {count} {'tokens' if count > 1 else 'token'}."
    if moment.decode:
        yield f"{names(sorted(moment.decode))} {verb(moment.decode, 'writes')} a token."
    if moment.step.ended:
        ended = sorted(moment.step.ended)
        yield f"{names(ended)} {verb(ended, 'ends')}: the blocks are given back."


def names(requests: Sequence[int]) -> str:
    """What requests are called, in a sentence.

    >>> names([0, 1, 3])
    'A, B and D'
    """
    *first, last = map(name_of, requests)
    return f"{', '.join(first)} and {last}" if first else last


def verb(requests: Collection[int], singular: str) -> str:
    """What one or several requests do.

    >>> verb([0], "writes"), verb([0, 1], "writes")
    ('writes', 'write')
    """
    return singular if len(requests) == 1 else singular.removesuffix("s")


def _found(moment: Moment, before: Moment | None, number: int) -> int:
    """Tokens that a request which begins to run need not read."""
    if number not in moment.tables or (before and number in before.tables):
        return 0
    return moment.tables[number][1] - moment.step.reads.get(number, 0)


def _shared_tokens(moments: Sequence[Moment]) -> list[int]:
    """Tokens that were found in known beginnings, step by step."""
    befores = [None, *moments]
    return [
        sum(_found(moment, before, number) for number in moment.tables)
        for before, moment in zip(befores, moments, strict=False)
    ]


def _held(moments: Sequence[Moment], count: int) -> tuple[str, ...]:
    return tuple(f"{len(_blocks(moment))} of {count}" for moment in moments)


def _blocks(moment: Moment) -> set[int]:
    return {block for blocks, _ in moment.tables.values() for block in blocks}


def _empty(moment: Moment, size: int) -> str:
    """The share of slots without a token, of the blocks that requests hold."""
    reserved = size * len(_blocks(moment))
    return _share(sum(len(b) * size - length for b, length in moment.tables.values()), reserved)


def _reserved(moment: Moment, context: int) -> str:
    reserved = context * len(moment.tables)
    return _share(reserved - sum(length for _, length in moment.tables.values()), reserved)


def _share(empty: int, reserved: int) -> str:
    return f"{empty / reserved:.0%}" if reserved else "–"
