"""The oracles notice each known bug: they pass on the library and fail on its patched copies."""

import oracles
import pytest
from mutations import BUGS, Mutation

from minillm.speculative.bug_gallery import library, patched


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_oracle_notices(bug: Mutation) -> None:
    with pytest.raises(AssertionError):
        getattr(oracles, bug.oracle)(patched(bug))


@pytest.mark.slow
@pytest.mark.parametrize("oracle", sorted({bug.oracle for bug in BUGS}))
def test_oracle_passes_without_a_bug(oracle: str) -> None:
    getattr(oracles, oracle)(library())
