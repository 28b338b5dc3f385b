"""Laying out a model for the one call loads nothing that every lesson would pay for."""

import subprocess
import sys

SCRIPT = """
import sys

from minillm import load
from minillm.fast.model import ONE_CALL, optimized

optimized(load("stories-xs")[0], ONE_CALL)
sys.exit("torch._dynamo" in sys.modules)
"""


def test_the_one_call_imports_no_compiler() -> None:
    assert subprocess.run([sys.executable, "-c", SCRIPT], check=False).returncode == 0
