"""What numba keeps on disk is what the sources say now."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import minillm.fast.kernels.memory

LEAF = """
from minillm.fast.kernels.memory import jitted

@jitted
def leaf(x):
    return {}
"""
ROOT = """
import leaf
from minillm.fast.kernels.memory import jitted

@jitted
def root(x):
    return leaf.leaf(x) + 1
"""


@pytest.fixture
def root_of_a_fresh_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Imports a copy of the kernels' folder anew, with another leaf."""
    copy = tmp_path / "memory.py"
    copy.write_text(
        Path(minillm.fast.kernels.memory.__file__).read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "root.py").write_text(ROOT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def start(leaf: str) -> ModuleType:
        (tmp_path / "leaf.py").write_text(LEAF.format(leaf), encoding="utf-8")
        for name in ("leaf", "root", "memory"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        monkeypatch.setitem(
            sys.modules, "minillm.fast.kernels.memory", importlib.import_module("memory")
        )
        return importlib.import_module("root").root

    yield start
    for name in ("leaf", "root", "memory"):
        sys.modules.pop(name, None)


def test_a_kernel_is_compiled_anew_when_one_that_it_inlines_has_changed(
    root_of_a_fresh_process,
) -> None:
    start = root_of_a_fresh_process
    assert start("x * 2")(3) == 7
    again = start("x * 2")
    assert again(3) == 7
    assert sum(again.stats.cache_hits.values()) == 1  # nothing has changed
    assert start("x * 10")(3) == 31
