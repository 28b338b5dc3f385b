"""One thread per worker, no network, and jaxtyping signatures checked at run time.

Types are checked in a test's first case, and in its first with each function that it is given: to
check them takes longer than to compute. Where CI is set, warnings are errors: elsewhere a new
version of a dependency may bring some.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import config as types
from jaxtyping import install_import_hook
from xdist.scheduler import LoadScopeScheduling

os.environ["OMP_NUM_THREADS"] = "1"  # of child processes
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
pytest.register_assert_rewrite("oracles")
(package,) = find_spec("minillm").submodule_search_locations
modules = [
    ".".join(p.relative_to(package).with_suffix("").parts) for p in Path(package).rglob("*.py")
]
kernels = "fast.kernels."  # numba knows no decorators
checked = [f"minillm.{name}" for name in modules if not name.startswith(kernels)]
install_import_hook(checked, "typecheck.typecheck")

import oracles  # noqa: E402

import minillm  # noqa: E402

MINUTES = (
    "tests/notebooks/test_notebooks.py",
    "tests/notebooks/test_planted.py",
)  # a lesson each: shared out


class OneBrowser(LoadScopeScheduling):
    """A worker gets whole modules; all that need the browser are one, and those of minutes none."""

    def _split_scope(self, nodeid: str) -> str:
        browser = "tests/browser"
        if nodeid.startswith(browser):
            return browser
        return nodeid if nodeid.startswith(MINUTES) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneBrowser:
    return OneBrowser(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI"):
        config.addinivalue_line("filterwarnings", "error")


tried = set[tuple[object, ...]]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    test = item.nodeid.partition("[")[0], *(id(value) for value in given if callable(value))
    types.update("jaxtyping_disable", test in tried)
    tried.add(test)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    types.update("jaxtyping_disable", False)


def drawn() -> tuple[object, ...]:
    """Where the global generators of torch and NumPy stand; Python's own is the type checker's."""
    _, key, *place = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), key.tobytes(), place


@pytest.fixture(autouse=True)
def nothing_draws_globally() -> Iterator[None]:
    """Randomness is an argument: what a test calls leaves the global generators alone.

    Where a test, or another's library, has to draw, it does so in `torch.random.fork_rng()`.
    """
    before = drawn()
    yield
    assert drawn() == before, "a global generator moved"


@pytest.fixture
def tiny_config() -> Callable[..., minillm.ModelConfig]:
    """`tiny_config(**sizes)`: a configuration of a few numbers."""
    return partial(oracles.tiny_config, minillm)


@pytest.fixture
def tiny() -> Callable[..., minillm.Transformer]:
    """`tiny(seed=0, dtype=torch.float64, **sizes)`: a random model."""
    return partial(oracles.tiny, minillm)


@pytest.fixture(scope="session")
def draft() -> minillm.Transformer:
    """The smaller shipped model, in float64."""
    return minillm.load("stories-draft", dtype=torch.float64)[0]
