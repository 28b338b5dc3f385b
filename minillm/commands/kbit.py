"""`minillm kbit`: measure a family at every precision, and record the points.

What they say about sizes and bits is read off in `minillm.scaling.kbit`.
"""

import argparse
import shlex
from dataclasses import asdict

from tqdm import tqdm

from minillm.checkpoint import folder, load, read_tokenizer
from minillm.commands.named_path import named_path
from minillm.data import recorded
from minillm.data.heldout import stories
from minillm.scaling.kbit import PRECISIONS, KBit, measure
from minillm.tokens import encode_all, same_tokens

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", type=named_path, nargs="+", metavar="MODEL", help="shipped models or folders"
    )
    parser.add_argument("--out", type=named_path, required=True, help="JSON to write")


def run(arguments: argparse.Namespace) -> None:
    """Measure each model on the package's held-out stories, and write the points.

    Raises:
        FileNotFoundError: a missing model, or no folder for the file.
        ValueError: the file is there; two models of one name, or of different tokens.
    """
    recorded.refuse_loss(arguments.out)
    tokenizers = [read_tokenizer(folder(place) / "tokenizer.json") for place in arguments.models]
    points, names = list[KBit](), [folder(name).name for name in arguments.models]
    if len(set(names)) < len(names):
        raise ValueError(f"two models of one name cannot be told apart: {', '.join(names)}")
    if not all(same_tokens(tokenizers[0], other) for other in tokenizers):
        raise ValueError("losses a token do not compare: the models have different tokens")
    total = 2 * len(PRECISIONS) * len(names)
    with tqdm(total=total, unit="point", disable=None) as bar:
        for name, place in zip(names, arguments.models, strict=True):
            model, tokenizer = load(place)
            for point in measure(name, model, encode_all(tokenizer, stories())):
                points.append(point)
                bar.update()
    record = {
        "command": shlex.join(["minillm", "kbit", *names, "--out", arguments.out.name]),
        "format": "integers per channel, with scales in float32 and zero points",
        "text": "held-out stories of this package",
        "versions": recorded.versions(),
        "points": [asdict(point) for point in points],
    }
    recorded.write(arguments.out, record)
    print(f"{arguments.out}: {len(points)} points of {', '.join(names)}")
