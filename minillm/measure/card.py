"""What a card did: the record that `minillm bench --device cuda` wrote, in words for the lessons.

The package carries the record where somebody had a card; where nobody had, lessons say nothing.
"""

from pathlib import Path
from typing import Any

from minillm.files import read_json

__all__ = ["PARTS", "recorded_card", "said_of"]

RECORD = Path(__file__).parents[1] / "data" / "card.json"

_SENTENCES = {
    "tokens": "m = {tokens}: {ms} ms, {times} times one token",
    "guesses": "{texts} texts behind {context} tokens: {speed} tokens/s with guesses, {ratio} times"
    " the plain loop ({low} to {high})",
    "matrices": "{rows} rows: {bits16} ms in 16 bits, {int8} ms in int8, {fp8} ms in fp8",
    "batches": "in batches of {batch}: {differing} of {texts} texts differ from those alone",
}
PARTS = tuple(_SENTENCES)


def recorded_card(part: str) -> str:
    """A part of the shipped record ("tokens", "guesses", "matrices", "batches"); "" without one."""
    return said_of(read_json(RECORD), part) + "\n" if RECORD.exists() else ""


def said_of(record: dict[str, Any], part: str) -> str:
    """A part of a record: the card, then a line for each row; "-" stands for what has no number."""
    head = f"recorded: {record['device']}, torch {record['torch']}, {record['dtype']}"
    layers = f", 8B shape, {record['layers']} layers" if part == "tokens" else ""
    rows = [{name: _number(x) for name, x in row.items()} for row in record["parts"][part]]
    return "\n".join([head + layers, *(_SENTENCES[part].format_map(row) for row in rows)])


def _number(x: float | None) -> str:
    return "-" if x is None else str(x) if isinstance(x, int) else f"{x:.3g}"
