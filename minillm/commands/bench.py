"""`minillm bench`: what each trick gains on this machine, and what was found equal."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from minillm.bench import ROWS, BenchRow, measure
from minillm.bench.card import card, measure_card
from minillm.bench.card.large import fitting
from minillm.commands.table import table
from minillm.files import write_whole
from minillm.measure.card import PARTS, said_of

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="a row, or a group of them; may be repeated"
    )
    parser.add_argument(
        "--model", default="stories", help="of the rows that take any model (stories)"
    )
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON")
    parser.add_argument(
        "--device", metavar="CARD", help="measure a card, such as cuda, in place of the rows"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("card.json"), help="where the card's record goes"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure the rows, or a card; the exit code is 1 where a check failed."""
    if arguments.device:
        return _measure_card(arguments.device, arguments.out)
    known = [x for x in ROWS if arguments.model == "stories" or ROWS[x].any_model]
    asked = arguments.only or known
    names = list(dict.fromkeys(name for wanted in asked for name in _named(wanted, known)))
    if arguments.list:
        print("\n".join(f"{name}: against {ROWS[name].against}" for name in names))
        return 0
    rows: list[BenchRow] = []
    try:
        for name in names:
            rows.append(measure(name, arguments.model))
    finally:  # interrupted: what was measured is not lost
        as_json = [asdict(row) for row in rows]
        print(json.dumps(as_json, indent=1) if arguments.json else _report(rows))
    return int(any(row.check == "failed" for row in rows))


def _named(wanted: str, known: list[str]) -> list[str]:
    """The row of this name, or those of the group, such as "serving"."""
    found = [name for name in known if name == wanted or name.startswith(f"{wanted}/")]
    if not found:
        raise ValueError(f"no row named {wanted!r}: the known ones are {', '.join(known)}")
    return found


def _measure_card(device: str, out: Path) -> int:
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent} to write {out.name} to")
    found = card(device)
    record = measure_card(found, fitting(found))
    text = json.dumps(record, indent=1)
    write_whole(out, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    print("\n\n".join(said_of(record, part) for part in PARTS), f"\n\nwritten: {out}")
    return 0


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
