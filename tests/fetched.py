"""Tests of a public model skip where it was not fetched; where CI is set, they fail without it."""

import os

import pytest

from minillm.checkpoint.published import PUBLISHED

__all__ = ["needs"]


def needs(name: str) -> pytest.MarkDecorator:
    """Marks a test that reads this model."""
    left_out = not os.environ.get("CI") and not PUBLISHED[name].path.is_file()
    return pytest.mark.skipif(left_out, reason=f"minillm fetch {name}")
