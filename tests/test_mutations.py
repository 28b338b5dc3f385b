"""The oracles notice each known bug: they pass on the library and fail on its patched copies."""

from pathlib import Path

import oracles
import pytest
from mutations import BUGS, Bug, planted


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_oracle_notices(bug: Bug, tmp_path: Path) -> None:
    with planted(bug, tmp_path) as lib, pytest.raises(AssertionError):
        getattr(oracles, bug.oracle)(lib)


def test_oracles_pass_without_a_bug(tmp_path: Path) -> None:
    with planted(None, tmp_path) as lib:
        for oracle in sorted({bug.oracle for bug in BUGS}):
            getattr(oracles, oracle)(lib)
