"""`minillm findings`: measure the course's findings on models, and record them (lesson 15)."""

import argparse
import platform
import shlex
from dataclasses import asdict
from datetime import date

import torch
from tqdm import tqdm

from minillm.checkpoint import opened
from minillm.commands.named_path import named_path
from minillm.data import recorded
from minillm.fast import optimized
from minillm.public_model import FINDINGS, Point, measured
from minillm.public_model.subject import subject

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known = "shipped or fetched models, folders or .gguf files"
    parser.add_argument("models", type=named_path, nargs="+", metavar="MODEL", help=known)
    parser.add_argument("--out", type=named_path, required=True, help="JSON to write")


def run(arguments: argparse.Namespace) -> None:
    """Measure each model, and write the points; minutes for a model of 135 M parameters.

    Raises:
        FileNotFoundError: a missing model, or no folder for the file.
        ValueError: the file is there.
    """
    recorded.refuse_loss(arguments.out)
    checkpoints = {str(name): opened(name) for name in arguments.models}
    points = list[Point]()
    with tqdm(total=len(FINDINGS) * len(checkpoints), unit="finding", disable=None) as bar:
        for name, checkpoint in checkpoints.items():
            model = checkpoint.model()
            asked = subject(checkpoint, model, optimized(model))
            for point in measured(name, asked, FINDINGS):
                points.append(point)
                bar.update()
    names = [*checkpoints, "--out", arguments.out.name]
    record = {
        "command": shlex.join(["minillm", "findings", *names]),
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, float32, threads: {torch.get_num_threads()}",
        "versions": recorded.versions(),
        "points": [asdict(point) for point in points],
    }
    recorded.write(arguments.out, record)
    print(f"{arguments.out}: {len(points)} points of {', '.join(checkpoints)}")
