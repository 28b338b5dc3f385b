"""Exercises as homework: what graders read, that no solution is handed out, and real grades."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minillm.commands.main import main
from widgets.common.exercises import homework
from widgets.common.exercises.solutions import solutions

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LESSON = "02_kv_cache"
RIGHT = {s.key: s.code for path in NOTEBOOKS for s in solutions(json.loads(path.read_text()))}
WRONG = "mended = reusable"  # the bug of the exercise


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Homework of all lessons for both graders."""
    folder = tmp_path_factory.mktemp("homework")
    for grader in homework.GRADERS:
        assert homework.main([grader, str(folder / grader), *map(str, NOTEBOOKS)]) == 0
    return folder


def test_every_exercise_is_in_the_homework_for_both_graders(folder: Path) -> None:
    for path in NOTEBOOKS:
        keys = [solution.key for solution in solutions(json.loads(path.read_text()))]
        names = sorted(f"q{key.replace('.', '_')}" for key in keys)
        otter = folder / "otter" / path.stem
        assert sorted(test.stem for test in (otter / "tests").iterdir()) == names
        asked = "\n".join(sources(otter / path.name))
        graded = json.loads((folder / "nbgrader" / "source" / path.stem / path.name).read_text())
        roles = [c["metadata"]["nbgrader"] for c in graded["cells"] if c["metadata"]]
        for key, name in zip(keys, names, strict=True):
            assert f'check("{key}"' in asked
            assert f"**{key} " in asked
            kinds = [r["grade"] for r in roles if r["grade_id"].endswith(f"-{name}")]
            assert kinds == [False, True]


def test_no_solution_is_handed_out(folder: Path) -> None:
    for path in NOTEBOOKS:
        asked = "\n".join(sources(folder / "otter" / path.stem / path.name))
        graded = "\n".join(sources(folder / "nbgrader" / "source" / path.stem / path.name))
        for solution in solutions(json.loads(path.read_text())):
            assert solution.code not in asked
            assert f"### BEGIN SOLUTION\n{solution.code}### END SOLUTION" in graded
        assert "<details" not in asked + graded


def test_a_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gradebook.db").touch()
    assert main(["handout", "--for", "nbgrader", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["gradebook.db"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_unanswered_homework_runs_to_its_end(path: Path, folder: Path) -> None:
    notebook = json.loads((folder / "otter" / path.stem / path.name).read_text())
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)


# graders from PyPI


def _tool(name: str) -> str:
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -r binder/hub/requirements.txt")
    return found


def _submit(homework: Path, to: Path, *codes: str) -> Path:
    """What a student hands in: each stub of an answer followed by this code."""
    notebook = json.loads(homework.read_text())
    answers = iter(codes)
    for cell in notebook["cells"]:
        before, call, after = "".join(cell["source"]).rpartition("\ncheck(")
        if call:
            cell["source"] = f"{before}\n{next(answers)}\n{call}{after}"
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(notebook))
    return to


RIGHT_ANSWERS = [RIGHT[f"02.{i}"] for i in (1, 2, 3)]
WRONG_ANSWERS = [WRONG, *RIGHT_ANSWERS[1:]]


@pytest.mark.hub
def test_otter_grades_a_right_and_a_wrong_submission(folder: Path, tmp_path: Path) -> None:
    otter, given = _tool("otter"), folder / "otter" / LESSON
    _call(tmp_path, otter, "generate", "-t", given / "tests", "-o", tmp_path / "autograder.zip")
    scores = {}
    for name, codes in {"right": RIGHT_ANSWERS, "wrong": WRONG_ANSWERS}.items():
        handed_in = _submit(given / f"{LESSON}.ipynb", tmp_path / name / "hw.ipynb", *codes)
        out = tmp_path / name
        _call(tmp_path, otter, "run", "-a", tmp_path / "autograder.zip", "-o", out, handed_in)
        tests = json.loads((out / "results.json").read_text())["tests"]
        scores[name] = {t["name"].split()[0]: t["score"] for t in tests if "score" in t}
        told = "\n".join(test["output"] for test in tests)
    assert sum(scores["right"].values()) == 3
    assert sum(scores["wrong"].values()) == 2
    assert "has seen another past" in told


@pytest.mark.hub
def test_nbgrader_grades_a_right_and_a_wrong_submission(folder: Path, tmp_path: Path) -> None:
    nbgrader = _tool("nbgrader")
    course = tmp_path / "course"
    shutil.copytree(folder / "nbgrader", course)
    _call(course, nbgrader, "generate_assignment", LESSON)
    released = course / "release" / LESSON / f"{LESSON}.ipynb"
    assert RIGHT["02.1"].strip() not in "\n".join(sources(released))
    for student, codes in {"ada": RIGHT_ANSWERS, "ben": WRONG_ANSWERS}.items():
        _submit(released, course / "submitted" / student / LESSON / released.name, *codes)
    _call(course, nbgrader, "autograde", LESSON)
    _call(course, nbgrader, "export")
    header, *rows = [line.split(",") for line in (course / "grades.csv").read_text().splitlines()]
    grades = [dict(zip(header, row, strict=True)) for row in rows]
    scores = {g["student_id"]: float(g["score"]) for g in grades if g["assignment"] == LESSON}
    assert scores == {"ada": 3.0, "ben": 2.0}


def _call(folder: Path, *command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
