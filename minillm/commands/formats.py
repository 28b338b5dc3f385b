"""`minillm formats`: what each format stores, adds to the loss and takes, as lesson 10 shows it."""

import argparse
import platform
import shlex

import torch
from tqdm import tqdm

from minillm.checkpoint import folder, load
from minillm.commands.named_path import named_path
from minillm.data import recorded
from minillm.data.heldout import in_domain_stories
from minillm.fast.int8_model import optimized_int8
from minillm.fast.model import kernel_names, optimized
from minillm.measure.divergence import divergences
from minillm.measure.timing import in_turn
from minillm.quantization.model import quantize_model
from minillm.quantization.record import BOTH, SPECS, stepper
from minillm.tokens import encode

__all__ = ["add_arguments", "run"]

_TEXTS, _TOKENS = 48, 128  # how many stories, and predicted tokens of each
_ROUNDS = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=named_path, help="a shipped model, or a folder")
    parser.add_argument("--out", type=named_path, required=True, help="JSON to write")


def run(arguments: argparse.Namespace) -> None:
    """Round the model to each format, judge and time it, and write the points.

    Raises:
        FileNotFoundError: a missing model, or no folder for the file.
        ValueError: the file is there; a model that a format does not fit.
    """
    recorded.refuse_loss(arguments.out)
    model, tokenizer = load(arguments.model)
    named = tqdm(SPECS.items(), unit="format", disable=None)
    small = {name: quantize_model(model, spec) for name, spec in named}
    fast = {
        "float32": optimized(model),
        BOTH: optimized_int8(small["int8"], round_activations=True),
    }
    stored = {name: each.nbytes for name, each in small.items()}
    stored |= {"float32": sum(p.nbytes for p in model.parameters()), BOTH: stored["int8"]}
    texts = [encode(tokenizer, story)[: _TOKENS + 1] for story in in_domain_stories()[:_TEXTS]]
    judged = divergences(model, {**fast, **small}, texts)
    torch.set_num_threads(1)
    steps = {name: stepper(each) for name, each in {**fast, **small}.items()}
    _, *rounds = in_turn([list(steps.values())] * (_ROUNDS + 1))  # the first warms up
    points = [
        {
            "format": name,
            "nbytes": stored[name],
            "kernel": kernel_names(fast[name]) if name in fast else "unpacked, then F.linear",
            "tokens": judged[name].tokens.tolist(),
            "sums": [
                [round(nats, 5) for nats in sums.tolist()]
                for sums in (judged[name].loss, judged[name].added, judged[name].kl)
            ],
            "seconds": [round(spent, 7) for spent in seconds],
        }
        for name, seconds in zip(steps, zip(*rounds, strict=True), strict=True)
    ]
    name = folder(arguments.model).name
    record = {
        "command": shlex.join(["minillm", "formats", name, "--out", arguments.out.name]),
        "text": f"the first {_TOKENS} tokens of {_TEXTS} in-domain stories of this package",
        "sums": "of each text, in nats: loss, loss less the original's, KL(original || rounded)",
        "machine": f"{platform.machine()}, threads: {torch.get_num_threads()}",
        "versions": recorded.versions(),
        "points": points,
    }
    recorded.write(arguments.out, record)
    print(f"{arguments.out}: {len(points)} points of {name}")
