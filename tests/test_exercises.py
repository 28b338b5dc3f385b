"""Checks: what they accept, what they say of typical mistakes, and that they never raise."""

import builtins
import contextlib
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from IPython.core.compilerop import CachingCompiler
from torch import Tensor

import widgets.decoding.exercises as decoding_exercises
import widgets.gptq.exercises as gptq_exercises
import widgets.kv_cache.exercises as kv_cache_exercises
import widgets.roofline.exercises as roofline_exercises
from minillm.config import ModelConfig
from minillm.kv_cache import kv_bytes
from minillm.transformer import Transformer
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

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


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


# lesson 01


def test_rows_without_a_cache() -> None:
    p, n = decoding_exercises.PROMPT, decoding_exercises.NEW
    verdict = judge("01.1", n * p + n * (n - 1) // 2)
    assert verdict.grade == "right"
    assert "counts 1,512" in verdict.says


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (384, "but not the tokens already written"),
        (1128, "sees the prompt as well"),
        (1560, "last token is written"),
        (2688, "early passes"),
        (55, "with a cache"),
        (56, "one a token"),
        (7, "2 + 3 + 4"),
    ],
)
def test_rows_without_a_cache_mistaken(answer: int, helps: str) -> None:
    verdict = judge("01.1", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def _top_p(given: Tensor, p: float) -> Tensor:
    values, order = given.sort(descending=True)
    values[values.cumsum(0) - values >= p] = 0
    return torch.zeros_like(given).scatter(0, order, values / values.sum())


def _drops_the_crossing_token(given: Tensor, p: float) -> Tensor:
    values, order = given.sort(descending=True)
    values[values.cumsum(0) > p] = 0
    return torch.zeros_like(given).scatter(0, order, values / values.sum())


def _keeps_one_too_many(given: Tensor, p: float) -> Tensor:
    values, order = given.sort(descending=True)
    values[values.cumsum(0) - values > p] = 0
    return torch.zeros_like(given).scatter(0, order, values / values.sum())


def _forgets_to_divide(given: Tensor, p: float) -> Tensor:
    return given * (_top_p(given, p) > 0)


def _keeps_the_sorted_order(given: Tensor, p: float) -> Tensor:
    return _top_p(given, p).sort(descending=True).values


def _cuts_by_value(given: Tensor, p: float) -> Tensor:
    return torch.where(given >= p, given, 0.0) / 1


def _shortens(given: Tensor, p: float) -> Tensor:
    kept = _top_p(given, p)
    return kept[kept > 0]


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (_drops_the_crossing_token, "the one that makes the sum cross p stays"),
        (_keeps_one_too_many, "no further token is needed"),
        (_forgets_to_divide, "divide by the sum"),
        (_keeps_the_sorted_order, "put them back"),
        (_cuts_by_value, "Nothing is left"),
        (_shortens, "keep their place"),
        (lambda given, p: _top_p(given, p).tolist(), "Is there a return?"),
        (lambda given, p: given, "Add up from the most probable"),
    ],
)
def test_top_p_mistaken(answer: Callable[[Tensor, float], Any], helps: str) -> None:
    verdict = judge("01.2", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_top_p() -> None:
    assert judge("01.2", _top_p).grade == "right"
    said = judge("01.2", _drops_the_crossing_token).says
    assert said == (
        "top_p([0.125, 0.5, 0.25, 0.125], 0.6): expected [0, 0.667, 0.333, 0], got [0, 1, 0, 0]."
    )


def _temperature_of(bits: float) -> float:
    low, high = 0.1, 10.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if decoding_exercises.entropy_bits(middle) < bits else (low, middle)
        )
    return low


def test_the_temperature_of_an_entropy() -> None:
    bits = decoding_exercises.BITS
    assert judge("01.3", _temperature_of(bits)).grade == "right"
    assert "divide nats" in judge("01.3", _temperature_of(bits / math.log(2))).look
    assert "lower temperature" in judge("01.3", 5.0).look
    assert "higher temperature" in judge("01.3", 0.5).look
    for senseless in (0, -1, math.nan, math.inf):
        assert judge("01.3", senseless).grade == "wrong"


# lesson 02


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (524288, "share one key and value"),
        (65536, "both key and value"),
        (262144, "4 bytes"),
        (32768, "A quarter"),
        (4096, "one layer"),
        (1048576, "32 bits and every query head"),
        (1, "Multiply"),
    ],
)
def test_bytes_a_token(answer: int, helps: str) -> None:
    assert judge("02.1", 131072).grade == "right"
    verdict = judge("02.1", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def _mask(new: int, cached: int) -> Tensor:
    return torch.ones(new, cached + new, dtype=torch.bool).tril(cached)


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(), "top left"),
        (lambda n, c: ~_mask(n, c), "upside down"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool), "come after it"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(c - 1), "sees itself"),
        (lambda n, c: torch.ones(n, n, dtype=torch.bool).tril(), "One row for each new token"),
        (lambda n, c: _mask(n, c).float(), "dtype=torch.bool"),
        (lambda n, c: _mask(n, c).tolist(), "Is there a return?"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(c + 1), "come after it"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(c - 2), "comes before"),
    ],
)
def test_a_mask_mistaken(answer: Callable[[int, int], Any], helps: str) -> None:
    verdict = judge("02.2", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_a_mask() -> None:
    assert judge("02.2", _mask).grade == "right"
    top_left = judge("02.2", lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril())
    assert top_left.says == (
        "causal_mask(new=2, cached=3), row 0: expected keys 0, 1, 2, 3, got keys 0."
    )


@pytest.mark.parametrize(
    ("answer", "grade"), [(60570, "right"), (60_000, "right"), (74_073, "right"), (8192, "wrong")]
)
def test_tokens_on_a_card(answer: float, grade: str) -> None:
    assert judge("02.3", answer).grade == grade


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (183_105, "no room for the weights"),
        (121_838, "2 bytes a parameter"),
        (15_142, "kv heads"),
        (121_141, "bytes"),
        (30_285, "16 bits"),
        (200_000, "minus the weights"),
        (-1, "Do the weights fit?"),
    ],
)
def test_tokens_on_a_card_mistaken(answer: float, helps: str) -> None:
    verdict = judge("02.3", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_the_parameters_of_llama_3_8b_are_those_of_its_shape() -> None:
    with torch.device("meta"):
        model = Transformer(kv_cache_exercises.LLAMA_3_8B)
    assert sum(p.numel() for p in model.parameters()) == kv_cache_exercises.PARAMETERS
    assert kv_bytes(kv_cache_exercises.LLAMA_3_8B, 1, torch.float16) == 131072


# lesson 03


@pytest.mark.parametrize("answer", [(163.9, 81.9), [164, 82], (165.2e12 / 1008e9, 82.0)])
def test_free_tokens_of_a_card(answer: Any) -> None:
    assert roofline_exercises.CARD.name == "RTX 4090"
    verdict = judge("03.1", answer)
    assert verdict.grade == "right"
    assert verdict.says.startswith("About 164 tokens in 16 bits and 82 in 8")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((327.8, 163.9), "twice as many: a weight takes 2 FLOPs"),
        ((81.9, 41), "a weight has 2 bytes"),
        ((1311, 656), "bits where bytes are due"),
        ((163_900, 81_900), "TFLOPs over GB"),
        ((0.1639, 0.0819), "in the same unit"),
        ((1 / 163.9, 1 / 81.9), "Upside down"),
        ((500, 250), "divided by the time of its two FLOPs"),
        ((163.9, 163.9), "the arithmetic stays"),
        ((163.9, 327.8), "The other way round"),
        ((163.9, 41), "not a quarter"),
        ((163.9, 7), "Only the bytes of a weight"),
        (163.9, "Expected two numbers"),
        ((163.9, 81.9, 1), "Expected two numbers"),
    ],
)
def test_free_tokens_of_a_card_mistaken(answer: Any, told: str) -> None:
    verdict = judge("03.1", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def _matrices(config: ModelConfig) -> int:
    heads = config.num_attention_heads + 2 * config.num_key_value_heads
    layer = config.hidden_size * (
        (heads + config.num_attention_heads) * config.head_dim + 3 * config.intermediate_size
    )
    return config.num_hidden_layers * layer + config.vocab_size * config.hidden_size


def _attending(config: ModelConfig, context: int) -> int:
    return 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * context


def _decode_step(config: ModelConfig, batch: int, context: int) -> tuple[float, float, float]:
    weights = _matrices(config)
    flops = batch * (2 * weights + _attending(config, context))
    return flops, 2 * weights, batch * context * 2 * config.kv_elements_per_token


def _outweighs(config: ModelConfig, batch: int) -> float:
    return _matrices(config) / (batch * config.kv_elements_per_token)


def test_a_decode_step_in_numbers() -> None:
    verdict = judge("03.2", (_decode_step, _outweighs))
    assert verdict.grade == "right"
    assert "from 114,516 tokens on, with 64 texts from 1,789 tokens in each" in verdict.look


Part = Callable[[ModelConfig, int, int], float]


def _table(config: ModelConfig) -> int:
    return config.vocab_size * config.hidden_size


def _group(config: ModelConfig) -> float:
    return config.num_attention_heads / config.num_key_value_heads


FLOPS: list[tuple[Part, str]] = [
    (lambda c, b, n: _decode_step(c, b, n)[0] / 2, "a multiplication and an addition"),
    (lambda c, b, n: _decode_step(c, 1, n)[0], "the arithmetic is done for each"),
    (lambda c, b, n: 2 * b * _matrices(c), "Attention is missing"),
    (lambda c, b, n: 2 * b * _matrices(c) + b * _attending(c, n) / 2, "does two things"),
    (lambda c, b, n: 2 * b * _matrices(c) + _attending(c, n), "its own context"),
    (
        lambda c, b, n: 2 * b * _matrices(c) + b * _attending(c, n) / _group(c),
        "not arithmetic: count all query heads",
    ),
    (lambda c, b, n: _decode_step(c, b, n)[0] + 2 * b * _table(c), "multiplies nothing"),
    (lambda c, b, n: _decode_step(c, b, n)[0] - 2 * b * _table(c), "The head is a matrix too"),
    (lambda c, b, n: 1.0, "term by term"),
]
WEIGHTS: list[tuple[Part, str]] = [
    (lambda c, b, n: 2 * b * _matrices(c), "read once for all rows"),
    (lambda c, b, n: _matrices(c), "Half: in 16 bits"),
    (lambda c, b, n: 4 * _matrices(c), "Twice as many: in 16 bits"),
    (lambda c, b, n: 2 * (_matrices(c) + _table(c)), "only the rows of the new tokens"),
    (lambda c, b, n: 2 * (_matrices(c) - _table(c)), "The head is read as a whole"),
    (lambda c, b, n: 1.0, "term by term"),
]
CACHE: list[tuple[Part, str]] = [
    (lambda c, b, n: _decode_step(c, 1, n)[2], "a cache of its own"),
    (lambda c, b, n: _decode_step(c, b, n)[2] / 2, "Half: a token leaves"),
    (lambda c, b, n: _decode_step(c, b, n)[2] / 4, "A quarter: a token leaves"),
    (lambda c, b, n: _decode_step(c, b, n)[2] * _group(c), "4 query heads share one"),
    (lambda c, b, n: _decode_step(c, b, n)[2] / c.num_hidden_layers, "That is one layer"),
    (lambda c, b, n: 1.0, "term by term"),
]


@pytest.mark.parametrize(
    ("index", "what", "part", "helps"),
    [
        (index, what, *case)
        for index, (what, cases) in enumerate(
            {"FLOPs": FLOPS, "bytes of weights": WEIGHTS, "bytes of the cache": CACHE}.items()
        )
        for case in cases
    ],
)
def test_a_decode_step_mistaken(index: int, what: str, part: Part, helps: str) -> None:
    def step(config: ModelConfig, batch: int, context: int) -> list[float]:
        numbers = list(_decode_step(config, batch, context))
        numbers[index] = part(config, batch, context)
        return numbers

    verdict = judge("03.2", (step, _outweighs))
    assert verdict.grade == "wrong"
    assert verdict.says.startswith("decode_step(LLAMA_3_8B, batch=8, context=4096): expected ")
    assert f" {what}, got " in verdict.says
    assert helps in verdict.look


def test_a_decode_step_has_to_hold_for_every_model() -> None:
    def tied(config: ModelConfig, batch: int, context: int) -> tuple[float, float, float]:
        flops, weights, cache = _decode_step(config, batch, context)
        return flops, weights - 2 * _table(config) * config.tie_word_embeddings, cache

    def ungrouped(config: ModelConfig, batch: int) -> float:
        return _outweighs(config, batch) * _group(config) / 4

    verdict = judge("03.2", (tied, _outweighs))
    assert "(LLAMA_3_8B, head and embedding tied, batch=8" in verdict.says
    assert "tied or not" in verdict.look
    verdict = judge("03.2", (_decode_step, ungrouped))
    assert verdict.says.startswith("outweighs(LLAMA_3_8B without groups, batch=8): expected ")


@pytest.mark.parametrize(
    ("outweighs", "helps"),
    [
        (lambda c, b: _outweighs(c, 1), "all of them are read"),
        (lambda c, b: 2 * _outweighs(c, b), "Twice as many"),
        (lambda c, b: _outweighs(c, b) / 2, "Half as many"),
        (lambda c, b: 1 / _outweighs(c, b), "Upside down"),
        (lambda c, b: 10.0, "over those that one token adds"),
    ],
)
def test_where_the_cache_outweighs_mistaken(
    outweighs: Callable[[ModelConfig, int], float], helps: str
) -> None:
    verdict = judge("03.2", (_decode_step, outweighs))
    assert verdict.grade == "wrong"
    assert verdict.says.startswith("outweighs(LLAMA_3_8B, batch=8): expected 14,315 tokens, got")
    assert helps in verdict.look


def test_two_functions_are_asked_for() -> None:
    assert "Expected two functions" in judge("03.2", _decode_step).says
    assert "expected three numbers" in judge("03.2", (lambda c, b, n: 1.0, _outweighs)).says
    assert judge("03.2", (_decode_step, ...)).grade == "open"
    assert "of type float" in judge("03.2", (_decode_step, 114_000.0)).says


Times = tuple[float, float]


def _together(
    m: int, weights: float, cache: float, flops: float, peak: float, bandwidth: float
) -> Times:
    compute = m * flops / peak
    return (
        max(compute, (weights + m * cache) / bandwidth),
        max(compute, (weights + cache) / bandwidth),
    )


def test_texts_and_tokens_together() -> None:
    verdict = judge("03.3", _together)
    assert verdict.grade == "right"
    assert "16 tokens of one text take 1.01 times as long as one, 16 texts 2.01" in verdict.look


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (lambda *a: _together(*a)[::-1], "swapped"),
        (
            lambda m, w, c, f, p, b: (m * f / p + (w + m * c) / b, m * f / p + (w + c) / b),
            "not the sum",
        ),
        (
            lambda m, w, c, f, p, b: (min(m * f / p, (w + m * c) / b), min(m * f / p, (w + c) / b)),
            "not the shorter",
        ),
        (lambda *a: (_together(*a)[1],) * 2, "a cache of its own"),
        (lambda *a: (_together(*a)[0],) * 2, "share its cache"),
        (
            lambda m, w, c, f, p, b: (
                max(m * f / p, m * (w + c) / b),
                _together(m, w, c, f, p, b)[1],
            ),
            "read once for all m",
        ),
        (
            lambda m, w, c, f, p, b: (
                max(m * f / p, m * (w + c) / b),
                max(m * f / p, (m * w + c) / b),
            ),
            "in both cases",
        ),
        (lambda m, w, c, f, p, b: ((w + m * c) / b, (w + c) / b), "can take longer"),
        (
            lambda m, w, c, f, p, b: (max(f / p, (w + m * c) / b), max(f / p, (w + c) / b)),
            "The arithmetic of all m tokens",
        ),
        (
            lambda m, w, c, f, p, b: (max(m * f / p, m * c / b), max(m * f / p, c / b)),
            "The weights have to be read as well",
        ),
        (lambda *a: (1.0, 1.0), "The longer of two"),
        (lambda *a: 1.0, "Is there a return?"),
    ],
)
def test_texts_and_tokens_together_mistaken(answer: Callable[..., Any], helps: str) -> None:
    verdict = judge("03.3", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_a_wrong_time_is_shown_beside_the_right_one() -> None:
    says = judge("03.3", lambda *a: (1.0, 1.0)).says
    assert says == (
        "texts_and_tokens(16, 1.5e+10, 1e+09, 1.6e+10, 9.89e+14, 3.35e+12): expected "
        "(0.009254, 0.004776) seconds, got (1, 1)."
    )


# lesson 11


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        (1.55, "wrong", "three numbers"),
        ((1.15, 2.215, 1.615), "wrong", "make up for what the first lost"),
        ((1.65, 2.215, 1.615), "wrong", "of the weight that moves"),
        ((1.75, 2.215, 1.615), "wrong", "All of the error?"),
        ((1.35, 2.215, 1.615), "wrong", "Nothing has moved"),
        ((1.55, 1.375, 1.615), "wrong", "the product of both"),
        ((1.55, 1.795, 1.615), "wrong", "its 3 twice"),
        ((1.55, 2.215, 4.735), "wrong", "Mind the signs"),
        ((1.55, 2.215, 0.5825), "wrong", "the error of the weights"),
        ((1.55, 2.215, 9.0), "wrong", "Write it down"),
        ((1.55, 2.215, 1.615), "right", "from 2.215 to 1.615"),
    ],
)
def test_a_column_by_hand(answer: Any, grade: str, says: str) -> None:
    verdict = judge("11.1", answer)
    assert verdict.grade == grade
    assert says in verdict.says + verdict.look


def _gptq_row(w: Tensor, U: Tensor, old: str = "", new: str = "") -> Tensor:
    """The solution, or one with a part of its loop replaced."""
    loop = "q[i] = w[i].round(); w[i + 1 :] -= (w[i] - q[i]) / U[i, i] * U[i, i + 1 :]"
    assert old in loop
    given, w, q = w, w.clone(), w.clone()
    for i in range(len(w)):
        exec(loop.replace(old, new) if old else loop, {"w": w, "q": q, "U": U, "i": i, "w0": given})
    return q


def test_gptq_of_a_row() -> None:
    assert judge("11.2", _gptq_row).grade == "right"
    assert judge("11.2", lambda w, U: _gptq_row(w, U).tolist()).grade == "right"


@pytest.mark.parametrize(
    ("old", "new", "helps"),
    [
        ("-=", "+=", "the wrong way"),
        (" / U[i, i] ", " ", "divided by U[i, i]"),
        ("U[i, i + 1 :]", "U[i + 1 :, i]", "does anything move?"),
        ("(w[i] - q[i])", "(w0[i] - q[i])", "as it is by now"),
        ("w[i + 1 :] -=", "w[i + 1 :] -= 2 *", "move all later weights"),
    ],
)
def test_gptq_of_a_row_mistaken(old: str, new: str, helps: str) -> None:
    verdict = judge("11.2", lambda w, U: _gptq_row(w, U, old, new))
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_a_row_of_whole_numbers_is_asked_for() -> None:
    assert "not all whole" in judge("11.2", lambda w, U: w).says
    assert "got a shape of ()" in judge("11.2", lambda w, U: 1.0).says
    assert "has changed" in judge("11.2", lambda w, U: w.round_()).says
    assert judge("11.2", ...).grade == "open"


_EQUAL, _OPPOSITE = [[1, 1]] * 4, [[1, -1]] * 4


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        ([_EQUAL], "wrong", "two texts"),
        ((_EQUAL[:3], _OPPOSITE), "wrong", "at least 4 rows"),
        ((_EQUAL, [[0, 0]] * 4), "wrong", "tells nothing"),
        ((_EQUAL, [[1, math.inf]] * 4), "wrong", "must be finite"),
        (([[1, 0], [0, 1]] * 2, _OPPOSITE), "wrong", "where inputs go together"),
        ((_EQUAL, _EQUAL), "wrong", "half at most"),
        ((_EQUAL, _OPPOSITE), "right", "16.0 times GPTQ's on the one"),
    ],
)
def test_a_misleading_text(answer: Any, grade: str, says: str) -> None:
    verdict = judge("11.3", answer)
    assert verdict.grade == grade
    assert says in verdict.says + verdict.look


def test_nearest_errs_sixteen_times_as_much_where_inputs_are_equal() -> None:
    on, off = gptq_exercises.transfer(_EQUAL, [[1, 0], [0, 1]])
    assert on == pytest.approx(0.8**2 / 0.2**2)
    assert off == pytest.approx((0.4**2 + 0.4**2) / (0.4**2 + 0.6**2))
