"""`minillm bench`: what each trick gains on this machine, and what was found equal."""

import argparse
import json
from dataclasses import asdict

from minillm.bench import ROWS, BenchRow, measure
from minillm.commands.table import table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", action="append", metavar="NAME", help="a row; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure the rows; the exit code is 1 where a check failed."""
    names = list(dict.fromkeys(arguments.only or ROWS))
    for name in names:
        if name not in ROWS:
            raise ValueError(f"no row named {name!r}: the known ones are {', '.join(ROWS)}")
    if arguments.list:
        print("\n".join(f"{name}: against {ROWS[name].against}" for name in names))
        return 0
    rows: list[BenchRow] = []
    try:
        for name in names:
            rows.append(measure(name))
    finally:  # interrupted: what was measured is not lost
        as_json = [asdict(row) for row in rows]
        print(json.dumps(as_json, indent=1) if arguments.json else _report(rows))
    return int(any(row.check == "failed" for row in rows))


def _report(rows: list[BenchRow]) -> str:
    """A table of the numbers, then what each row was set against and what was checked."""
    head = ["row", "ratio", "95 % interval", "ours, ms/token", "theirs, ms/token"]
    numbers = [
        [
            row.name,
            _number(row.ratio),
            "-" if row.low is None else f"{_number(row.low)} to {_number(row.high)}",
            _number(row.our_ms),
            _number(row.their_ms),
        ]
        for row in rows
    ]
    return "\n\n".join([table(head, numbers), *map(_note, rows)])


def _note(row: BenchRow) -> str:
    lines = [f"{row.name} against {row.against}"]
    if row.reason:
        lines.append(f"no ratio: {row.reason}")
    lines.append(f"check: {row.check}; {row.unit}")
    lines.append(f"kernel: {row.kernel}, {row.threads} threads")
    return "\n  ".join(lines)


def _number(x: float | None) -> str:
    return "-" if x is None else f"{x:.2f}"
