"""A wheel of this tree in a fresh environment: what it holds, and every lesson's first cell."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from test_structure import ROOT, git_files

# What a front end without this repository does, as Colab or VS Code: no Jupyter is asked.
FIRST_CELLS = """
import json, sys
import minillm, widgets
from minillm.commands.lab import lessons

for module in (minillm, widgets):
    assert module.__file__.startswith(sys.prefix), module.__file__
for path in lessons():
    assert path.is_relative_to(sys.prefix), path
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))
    exec(compile(source, path.name, "exec"), {"__name__": "__main__"})
    print(path.stem)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*pip, str(ROOT)], check=True)
    [wheel] = folder.glob("minillm-*.whl")
    return wheel


def test_it_holds_every_file_of_the_packages_and_the_lessons(wheel: Path) -> None:
    files = {path for path in git_files() if path.parts[0] in ("minillm", "widgets", "notebooks")}
    expected = {
        path.as_posix() if path.parts[0] != "notebooks" else f"minillm/{path.as_posix()}"
        for path in files
    }
    held = set(ZipFile(wheel).namelist())
    assert expected - held == set()
    assert {Path(name).suffix for name in held} >= {".safetensors", ".js", ".css", ".ipynb", ".j2"}
    rest = {name.split("/")[0] for name in held - expected}
    assert all(name.endswith(".dist-info") for name in rest)  # nothing for share/jupyter


def test_the_first_cell_of_every_lesson_runs(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = tmp_path / "venv" / scripts / "python"
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    ZipFile(wheel).extractall(site)
    # What minillm needs is taken from this environment; its editable minillm is not: a .pth file
    # is not read in a folder that another one names.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [python, "-c", FIRST_CELLS], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    lessons = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert run.stdout.split() == lessons
