"""`minillm train`: a model from any UTF-8 text, trained so that nothing is ever lost.

The folder `--out` holds one checkpoint while training runs and the finished model afterwards.
Ctrl-C (or SIGTERM) stops after the step at hand with a checkpoint; `--resume` goes on from it and
ends where an uninterrupted run ends. Files may have moved since: what they hold decides.
"""

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minillm.checkpoint import shipped
from minillm.commands.named_path import named_path
from minillm.measure.evaluation import evaluate
from minillm.training.data import TrainingData
from minillm.training.recipe import Recipe
from minillm.training.result import RESULT, write_result
from minillm.training.state import read_state, restore, write_state
from minillm.training.trainer import Trainer, new_trainer

__all__ = ["add_arguments", "run"]

_PLACES = ("texts", "validation", "tokenizer", "teacher")  # of files, which may move


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: those of `Recipe`, and where and how to run."""
    parser.add_argument("--out", type=named_path, required=True, help="folder of the model")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace what the folder holds")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    for what, steps in (("log", 25), ("validate", 250), ("checkpoint", 50)):
        parser.add_argument(
            f"--{what}-every",
            type=int,
            default=steps,
            metavar="STEPS",
            help=f"steps between two (default: {steps})",
        )
    Recipe.add_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train, or go on training, and write the model.

    Raises:
        ValueError: bad options or text, a checkpoint that does not fit, a full disk.
        FileNotFoundError: a missing file, or nothing to resume.
        KeyboardInterrupt: stopped from outside, after a checkpoint.
    """
    out: Path = arguments.out
    checkpoint = out / "checkpoint.safetensors"
    _refuse_loss(arguments, checkpoint)
    given = _given(arguments)
    tensors, state = read_state(checkpoint) if arguments.resume else ({}, {})
    recipe = _same_recipe(state["recipe"], given) if arguments.resume else Recipe(**given)
    try:
        data = TrainingData.read(recipe, None if "tokenizer" in given else state.get("tokenizer"))
        trainer = new_trainer(recipe, data.tokens, data.tokenizer, arguments.device)
    except FileNotFoundError as error:
        hint = "; if it was moved, name it where it lies now" if arguments.resume else ""
        raise FileNotFoundError(f"{error}{hint}") from error
    fingerprints = data.fingerprints(trainer.teacher)
    notes = {"tokenizer": data.tokenizer.to_str(), "fingerprints": fingerprints}
    if arguments.resume:
        begun = state.get("fingerprints", {})
        other = [name for name, mark in fingerprints.items() if begun.get(name) != mark]
        if other:
            raise ValueError(f"the {other[0]} is not the one that {checkpoint} began with")
        restore(trainer, tensors, state)
        print(f"resumed at step {trainer.step}")
    out.mkdir(parents=True, exist_ok=True)
    keep = partial(write_state, checkpoint, trainer, notes)
    keep()  # an unwritable folder shows now, not after an hour
    _train(trainer, data, arguments, keep)
    record = write_result(out, trainer, data)
    print(
        f"{out}: held-out loss {record['val_loss']:.3f} nats a token, "
        f"{record['val_bits_per_byte']:.3f} bits a byte"
    )
    checkpoint.unlink()


def _train(
    trainer: Trainer,
    data: TrainingData,
    arguments: argparse.Namespace,
    keep: Callable[[], None],
) -> None:
    """Take all steps that are left, and report, validate and `keep` the state on the way."""
    size, steps = trainer.tokens_per_step, trainer.steps
    total, behind = None if steps is None else steps * size, trainer.step * size
    with (
        tqdm(total=total, initial=behind, unit="tok", unit_scale=True, disable=None) as bar,
        interruption() as asked,
    ):
        while trainer.done < 1:
            loss = trainer.advance()
            step, ended = trainer.step, trainer.done >= 1
            bar.update(size)
            bar.set_postfix(step=step, loss=f"{loss:.3f}")
            point = {"step": step, "tokens": step * size, "seconds": round(trainer.seconds, 1)}
            point["loss"] = round(loss, 4)
            validated = step % arguments.validate_every == 0
            if validated:
                point["val_loss"] = round(evaluate(trainer.model, data.validation).loss, 4)
            if validated or ended or step % arguments.log_every == 0:
                trainer.curve.append(point)
                speed = f"tokens/s {step * size / trainer.seconds:,.0f}"
                bar.write("  ".join([*(f"{name} {x:,}" for name, x in point.items()), speed]))
            if asked.is_set() or ended or step % arguments.checkpoint_every == 0:
                keep()
            if asked.is_set() and not ended:
                bar.write(f"stopped after step {step}; --resume goes on from its checkpoint")
                raise KeyboardInterrupt


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """Within the block, the first Ctrl-C or SIGTERM sets the event; a second one acts at once."""
    asked = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def restore_handlers() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        asked.set()
        restore_handlers()

    if threading.current_thread() is threading.main_thread():
        before = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        restore_handlers()


def _refuse_loss(arguments: argparse.Namespace, checkpoint: Path) -> None:
    out = arguments.out
    for name in ("log_every", "validate_every", "checkpoint_every"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(arguments, name)}")
    if arguments.resume and arguments.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is not a folder")
    if arguments.resume or arguments.overwrite:
        return
    if checkpoint.exists():
        raise ValueError(f"{out} holds an unfinished run: --resume it, or --overwrite it")
    taken = [name for name in RESULT if (out / name).exists()]
    if taken:
        raise ValueError(f"{out} holds {taken[0]}: choose another folder, or --overwrite it")


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The recipe's options that were on the command line, with absolute paths."""
    given = {f.name: getattr(arguments, f.name) for f in fields(Recipe) if f.name in arguments}
    if "texts" in given:
        given["texts"] = tuple(map(os.path.abspath, given["texts"]))
    elif not arguments.resume:
        raise ValueError("name at least one text file to train on")
    for name in _PLACES[1:]:
        if given.get(name) == "":
            raise ValueError(f"{name}: the name of a file or folder is needed, got ''")
        if name in given and (name == "validation" or given[name] not in shipped()):
            given[name] = os.path.abspath(given[name])
    return given


def _same_recipe(recorded: dict[str, Any], given: dict[str, Any]) -> Recipe:
    """The checkpoint's recipe, with files where they lie now; other options must be the same."""
    places = {name: value for name, value in given.items() if name in _PLACES}
    recipe = Recipe(**recorded | {"texts": tuple(recorded["texts"])} | places)
    for name, value in given.items():
        if getattr(recipe, name) != value:
            raise ValueError(
                f"the checkpoint was begun with {name}={getattr(recipe, name)!r}, "
                f"it cannot be resumed with {value!r}"
            )
    return recipe
