"""No check of a lesson is green whatever happens: with a deviation planted, each goes red."""

from pathlib import Path

import nbformat
import pytest
import torch
from lesson_cells import Cell, cells_of, needed
from lesson_checks import unnoticed

from minillm.commands.lab import lessons

LESSONS = {path.stem: cells_of(path) for path in lessons()}
NOT_OURS = {"sparsity-38"}  # shows what a tool of torch's does
SETUP = """\
import copy
from functools import partial
import torch
from minillm import decode_cached, decode_recomputed, load
from widgets.common.meter import compare, measure, meter
model = load("stories-draft", dtype=torch.float64)[0]
naive = partial(decode_recomputed, model, max_new_tokens=3)
fast = partial(decode_cached, model, max_new_tokens=3)
prompt = [0, 5, 6]"""


def lesson(path: Path, *sources: str) -> list[Cell]:
    """The cells of a lesson, each of which is supposed to have printed True."""
    notebook = nbformat.v4.new_notebook()
    for number, source in enumerate(sources):
        out = [nbformat.v4.new_output("stream", text="True")]
        notebook.cells.append(nbformat.v4.new_code_cell(source, id=f"c{number}", outputs=out))
    nbformat.write(notebook, path)
    return cells_of(path)


@pytest.mark.slow
@pytest.mark.parametrize("stem", LESSONS)
def test_every_check_of_a_lesson_can_fail(stem: str) -> None:
    with torch.random.fork_rng():  # lessons may draw
        found = {id: (count, deaf) for id, count, deaf in unnoticed(LESSONS[stem])}
    assert all(found[cell.id][0] for cell in LESSONS[stem] if cell.calls_meter)
    assert {id: deaf for id, (_, deaf) in found.items() if deaf and id not in NOT_OURS} == {}


def test_the_lessons_calls_of_the_meter_are_found() -> None:
    meters = {c.id for cells in LESSONS.values() for c in cells if c.calls_meter}
    assert meters == {
        "kv-cache-28", "speculative-27", "speculative-29", "speedup-30", "speedup-34",
        "jacobi-23", "jacobi-27", "lookahead-30", "lookahead-32", "sparsity-40",
        "serving-42",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("check", "deaf"),
    [
        ("meter(naive, fast, [prompt], cache_of=model)", 0),
        ("print(compare(naive([prompt]), fast([prompt])).grade == 'identical')", 0),
        ("a, b = (next(f([prompt])).rows[0].tokens for f in (naive, fast))\nprint(a == b)", 0),
        ("a = next(fast([prompt])).rows[0].tokens\nprint('equal:', prompt[1:] == [5, 6])", 1),
        ("x = torch.ones(3)\nprint('equal:', all(x == y for y in []))", 1),
        ("print(abs(model(torch.tensor([prompt])) * 0).max().item() < 1e-10)", 1),
    ],
)
def test_a_check_that_cannot_fail_is_found(tmp_path: Path, check: str, deaf: int) -> None:
    [(id, count, what)] = unnoticed(lesson(tmp_path / "lesson.ipynb", SETUP, "x = 1", check))
    assert (id, count > 0, len(what)) == ("c2", True, deaf)


def test_a_meter_that_watches_another_model_stops_the_lesson(tmp_path: Path) -> None:
    check = "meter(naive, fast, [prompt], cache_of=copy.deepcopy(model))"
    with pytest.raises(ValueError, match="cache_of must be the model that runs"):
        list(unnoticed(lesson(tmp_path / "lesson.ipynb", SETUP, check)))


def test_only_what_a_check_needs_is_run(tmp_path: Path) -> None:
    cells = lesson(
        tmp_path / "lesson.ipynb",
        "a, found = 1, {}",
        "a = 2",
        "found[0] = a",
        "b = a\nunused = b",
        "def f(b):\n    unused = b\n    return a + found[0] + unused",
        "unused += 1",
        "print(f(0) == 4)",
    )
    assert [cell.id for cell in needed(cells, 6)] == ["c0", "c1", "c2", "c4", "c6"]


@pytest.mark.parametrize(
    ("source", "claims"),
    [
        ("print('equal:', a == b)", [(1, 1)]),
        ("print(torch.equal(a, b), x.equal(y))", [(1, 0), (1, 1)]),
        ("same = a == b\nprint(same)", [(2, 0)]),
        ("found = []\nfound.append(a == b)\nprint(all(found))", [(3, 0)]),
        ("print((a - b).abs().max() < 1e-10)", [(1, 0)]),
        ("print('faster:', ours < theirs)\nprint(a - b < 0.1, 5, not a == b, len(a) == 3)", []),
    ],
)
def test_a_claim_of_equality_is_told_from_other_statements(
    tmp_path: Path, source: str, claims: list[tuple[int, int]]
) -> None:
    assert list(lesson(tmp_path / "lesson.ipynb", source)[0].claims) == claims
