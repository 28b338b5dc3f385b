"""Checks: what they accept, what they say of typical mistakes, and that they never raise."""

import builtins
import contextlib
import functools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from IPython.core.compilerop import CachingCompiler

from widgets.common.exercises import (
    Verdict,
    attempt,
    check,
    exercise,
    hint,
    judge,
    right,
    run,
    wrong,
)
from widgets.common.exercises.solutions import solutions, try_solutions

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@exercise("toy.1", hints=["Think of <b>two</b>.", "Twice."])
def _double(answer: Any) -> Verdict:
    got = run(answer, 21)
    return right("Yes.") if got == 42 else wrong(f"f(21): expected 42, got {got}.", "Twice.")


@exercise("toy.2")
def _number(answer: Any) -> Verdict:
    return right("Yes.") if abs(answer - 1) < 0.1 else wrong("No.")


# the mechanism


def test_right_wrong_and_the_readers_own_function() -> None:
    calls = []

    def mine(x: int) -> int:
        calls.append(x)
        return 2 * x

    assert judge("toy.1", mine).grade == "right"
    assert calls == [21]
    assert judge("toy.1", lambda x: x) == wrong("f(21): expected 42, got 21.", "Twice.")


def _empty() -> list[Any]:
    def dots(x: int) -> int: ...  # type: ignore[empty-body]

    def documented(x: int) -> int:  # type: ignore[empty-body]
        """To be written."""

    def passes(x: int) -> None:
        pass

    def returns(x: int) -> Any:
        return ...

    def raises(x: int) -> int:
        raise NotImplementedError

    @functools.cache
    def decorated(
        x: int,
    ) -> int: ...  # type: ignore[empty-body]

    async def waits(x: int) -> None:
        """To be written."""
        return None

    def one_number(x: int) -> None:
        42  # noqa: B018
        return

    def not_yet(x: int) -> Any:
        return NotImplemented

    def placeholder(x: int) -> Any:
        result = ...
        return result

    class Part:
        def __init__(self) -> None:
            pass

        def append(self) -> None: ...

    class Static:
        @staticmethod
        def append() -> None: ...

    lambdas = (lambda x: None), lambda x: ...
    functions = [
        dots, documented, passes, returns, raises, decorated, waits, one_number, not_yet,
        placeholder, Part, Static,
    ]  # fmt: skip
    return [None, ..., NotImplemented, (1, ...), *lambdas, *functions]


@pytest.mark.parametrize("answer", _empty(), ids=lambda part: getattr(part, "__name__", repr(part)))
def test_nothing_written_yet_is_neutral(answer: Any) -> None:
    verdict = judge("toy.1", answer)
    assert (verdict.grade, verdict.says) == ("open", "not answered yet")


def test_nothing_written_in_a_cell_is_neutral() -> None:
    """A cell is no file: its lines are in `linecache`, under a name of IPython's."""
    cell = "precision = 3\n\ndef mine(x): ...\n\ndef other(x): return 2 * x\n"
    written: dict[str, Any] = {}
    exec(compile(cell, CachingCompiler().cache(cell), "exec"), written)
    assert judge("toy.1", written["mine"]).grade == "open"
    assert judge("toy.1", written["other"]).grade == "right"


def test_without_its_source_a_function_is_tried() -> None:
    written: dict[str, Any] = {}
    exec("def twice(x): return 2 * x\ndef later(x): raise NotImplementedError", written)
    exec("def nothing(x): ...", written)
    grades = [judge("toy.1", written[name]).grade for name in ("twice", "later", "nothing")]
    assert grades == ["right", "open", "wrong"]


def test_a_constant_is_an_answer() -> None:
    assert judge("toy.1", lambda x: 42).grade == "right"
    assert judge("toy.2", 0).grade == "wrong"


def test_an_exception_is_told_with_the_readers_line() -> None:
    def mine(x: int) -> int:
        numbers = [x]
        return builtins.sum(numbers) + numbers[1]

    verdict = judge("toy.1", mine)
    assert verdict.grade == "wrong"
    assert verdict.says.startswith("Your code raised IndexError: list index out of range in line ")
    assert verdict.says.endswith(": return builtins.sum(numbers) + numbers[1].")


def test_an_exception_deep_in_a_library_names_the_readers_line_too() -> None:
    def mine(x: int) -> Any:
        return json.loads("{" * x)

    says = judge("toy.1", mine).says
    assert 'return json.loads("{" * x)' in says
    assert "\n" not in says


def test_a_wrong_signature_is_told() -> None:
    assert "TypeError" in judge("toy.1", lambda: 42).says


def test_a_function_is_asked_for() -> None:
    assert judge("toy.1", 42).says == "A function is asked for, this is of type int."


def test_what_cannot_be_compared_is_wrong_not_a_traceback() -> None:
    assert "not of the kind" in judge("toy.2", "one").says


def test_an_endless_loop_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "LIMIT", 0.1)

    def mine(x: int) -> int:
        while True:
            with contextlib.suppress(Exception):
                x += 1

    start = time.perf_counter()
    verdict = judge("toy.1", mine)
    assert "still running after 0.1 seconds" in verdict.says
    assert time.perf_counter() - start < 2


def test_an_unknown_exercise_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no exercise 'toy\.9'.*toy\.1, toy\.2"):
        check("toy.9", 1)


def test_the_card_says_it_and_folds_the_hints() -> None:
    card = check("toy.1", lambda x: "<script>")
    assert card.summary() == "Exercise toy.1: f(21): expected 42, got <script>. Twice."
    assert "<script>" not in card.html + card.picture()
    assert "&lt;b&gt;two&lt;/b&gt;" in card.html
    assert card.html.count("<details>") == 2
    assert "<details>" not in check("toy.1", lambda x: 2 * x).html
    assert hint("toy.1").html.count("<details>") == 2
    assert "Twice" not in hint("toy.1").summary()
    assert check("toy.1", ...).summary() == "Exercise toy.1: not answered yet"


# solutions


def _cell(kind: str, source: str, *tags: str) -> dict[str, Any]:
    return {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)}}


FOLDED = "<details><summary>Solution</summary>\n\n```python\n{}\n```\n\n</details>"
DOUBLE = _cell(
    "markdown", FOLDED.format("def double(x):\n    return int(math.ldexp(x, 1)) + zero"), "solution"
)


def test_solutions_are_found_and_tried() -> None:
    notebook = {
        "cells": [
            _cell("code", "import math\nboom()"),
            _cell("code", "zero = 0", "setup"),
            _cell("code", 'double = ...\ncheck("toy.1", double)'),
            DOUBLE,
        ]
    }
    (found,) = solutions(notebook)
    assert (found.key, found.answer) == ("toy.1", "double")
    assert try_solutions(notebook) == {"toy.1": right("Yes.")}


def test_exercises_and_solutions_come_in_pairs() -> None:
    asked = _cell("code", 'check("toy.1", double)')
    with pytest.raises(ValueError, match=r"toy\.1 has no solution"):
        solutions({"cells": [asked]})
    with pytest.raises(ValueError, match=r"toy\.1 has no solution"):
        solutions({"cells": [asked, asked, DOUBLE]})
    with pytest.raises(ValueError, match="has no check above"):
        solutions({"cells": [DOUBLE]})
    with pytest.raises(ValueError, match="no folded python code"):
        solutions({"cells": [asked, _cell("markdown", "Two.", "solution")]})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_solution_is_right(path: Path) -> None:
    verdicts = try_solutions(json.loads(path.read_text(encoding="utf-8")))
    assert {key: v for key, v in verdicts.items() if v.grade != "right"} == {}
