"""The instructor's page: its lessons exist, and take the minutes that it says."""

import json
import re
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PAGE = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")


def test_sessions_hold_lessons_of_at_most_90_minutes() -> None:
    rows = re.findall(r"^\| (?:one|four|ten).*$", PAGE, re.MULTILINE)
    assert len(rows) == 1 + 4 + 10
    for row in rows:
        lessons = re.findall(r"\[(\d\d)\]\((\w+\.ipynb)\) (\d+)", row)
        assert sum(int(minutes) for *_, minutes in lessons) <= 90
        for number, name, minutes in lessons:
            assert name.startswith(number)
            first = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"][0]
            assert f"*{minutes} minutes" in "".join(first["source"])


def test_wrong_answers_are_of_exercises_that_exist() -> None:
    asked = "".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob("*.ipynb"))
    for key in re.findall(r"^\| (\d\d\.\d) \|", PAGE, re.MULTILINE):
        assert f'check(\\"{key}\\"' in asked
