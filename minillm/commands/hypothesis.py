"""`minillm hypothesis`: train small models, shorter and longer, and round each to few bits.

The model is so small that one pass over a text of megabytes is hundreds of tokens a parameter. A
run keeps its learning rate; at four of its points, each of twice the tokens of the one before, it
is measured as it is, and so is a branch that left it a quarter earlier and lowered its rate to
zero since. Both have read the same tokens in the same order: what differs between them is the
decay, and along either of them the tokens. A second run reads a quarter of the text four times.

Only the matrices of the layers are rounded, to nearest, in groups of 32 with zero points. The
embedding, two fifths of a model this small and next to nothing of a large one, stays as it is.

Sources: warm-up, plateau and decay by branches (arXiv 2405.18392); the hypothesis and its papers
in `minillm.scaling.overtraining`.
"""

import argparse
import copy
import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from typing import Any, get_args

from tqdm import tqdm

from minillm.commands.named_path import named_path
from minillm.data import recorded
from minillm.files import read_json
from minillm.measure.evaluation import evaluate
from minillm.quantization.simulated import rounded
from minillm.quantization.spec import Spec
from minillm.scaling.overtraining import FEW_BITS, Point, Rate, Text
from minillm.training.data import TrainingData, describe
from minillm.training.recipe import Recipe
from minillm.training.trainer import Trainer, new_trainer

__all__ = ["SHAPE", "add_arguments", "branch", "points_of", "run"]

SHAPE: dict[str, Any] = {
    "vocabulary": 512,
    "layers": 2,
    "width": 32,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 16,
    "mlp": 96,
    "context": 256,
    "batch": 8,
}
_GROUP = 32
_DECAY = 0.25
_PARTS = (8, 4, 2, 1)  # a run is measured when so much of it is done: an eighth, a quarter, ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("texts", nargs="+", metavar="TEXT", help="UTF-8 files, megabytes; as for `minillm train`")
    add("--validation", required=True, metavar="FILE", help="held-out text")
    add("--runs", type=named_path, required=True, help="folder of finished runs, to go on from")
    add("--out", type=named_path, required=True, help="JSON to write")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the runs (0 1 2 3 4)")


def run(arguments: argparse.Namespace) -> None:
    """Do the runs that are not done, and write the points of all.

    Raises:
        FileNotFoundError: a missing text, or no folder for the file.
        ValueError: a text that is too small; the file is there; seeds that are bad; runs of
            another experiment in the folder.
    """
    recorded.refuse_loss(arguments.out)
    seeds = arguments.seeds
    if len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) < 2**62:
        raise ValueError(f"--seeds must be different numbers from 0 to 2**62 - 1, got {seeds}")
    if arguments.out.resolve().parent == arguments.runs.resolve():
        raise ValueError("--out must not be in the folder of --runs")
    recipe = Recipe(tuple(arguments.texts), validation=arguments.validation, **SHAPE)
    data = TrainingData.read(recipe)
    recipe = replace(recipe, decay_fraction=0.0, steps=_steps(recipe, data))
    record = _record(recipe, data)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    points = list[Any]()
    for seed, text in product(seeds, get_args(Text)):
        kept = arguments.runs / f"{text}-{seed}.json"
        if not kept.exists():
            found = points_of(replace(recipe, seed=seed), data, text)
            recorded.write(kept, record | {"points": [asdict(point) for point in found]})
        done = read_json(kept)
        found = done.get("points", [])
        same = {(point["seed"], point["text"]) for point in found} == {(seed, text)}
        if not same or len(found) != 2 * len(_PARTS) or record | {"points": found} != done:
            raise ValueError(f"{kept} is of another experiment: choose another folder for --runs")
        points += found
    names, held_out = record["recipe"]["texts"], record["recipe"]["validation"]
    options = ["--validation", held_out, "--runs", "runs", "--out", arguments.out.name, "--seeds"]
    command = shlex.join(["minillm", "hypothesis", *names, *options, *map(str, seeds)])
    recorded.write(arguments.out, {"command": command} | record | {"points": points})
    print(f"{arguments.out}: {len(points)} points of {len(seeds)} seeds")


def points_of(recipe: Recipe, data: TrainingData, text: Text) -> Iterator[Point]:
    """One run at a constant rate and its branches, measured.

    Args:
        recipe: of the run, with as many steps as `data` has rows for, and no decay.
        data: the whole text.
        text: read all of it once, or its first quarter four times.
    """
    total = recipe.steps or 0
    if text == "repeated":
        quarter = total * recipe.batch * recipe.context // 4
        data = replace(data, tokens=data.tokens[:quarter])
    trunk = new_trainer(recipe, data.tokens, data.tokenizer, "cpu")
    ends = [total // part for part in _PARTS]
    leaves = {end - int(_DECAY * end): end for end in ends}

    def point(trainer: Trainer, rate: Rate) -> Point:
        losses = {form: _loss(trainer, data, form) for form in FEW_BITS}
        tokens = trainer.step * trainer.tokens_per_step
        return Point(recipe.seed, text, rate, tokens, _loss(trainer, data), losses)

    steps = total + sum(end - leave for leave, end in leaves.items())
    with tqdm(total=steps, desc=f"{text}, seed {recipe.seed}", unit="step", disable=None) as bar:
        while trunk.step < total:
            trunk.advance()
            bar.update()
            if trunk.step in leaves:
                falling = branch(trunk, leaves[trunk.step])
                while falling.done < 1:
                    falling.advance()
                    bar.update()
                yield point(falling, "decayed")
            if trunk.step in ends:
                yield point(trunk, "constant")


def branch(trunk: Trainer, steps: int) -> Trainer:
    """A copy whose rate falls to zero over the last quarter of so many steps.

    Where it leaves at three quarters of them, it ends as one run of that recipe would: until there
    both have done the same.
    """
    copied = copy.deepcopy(trunk)
    copied.recipe = replace(trunk.recipe, steps=steps, decay_fraction=_DECAY)
    return copied


def _loss(trainer: Trainer, data: TrainingData, form: str | None = None) -> float:
    """On held-out text, with the weights as they are or in a format."""
    model = trainer.model
    if form is not None:
        model = rounded(model, Spec(form, _GROUP, symmetric=False), embedding=False)
    return evaluate(model, data.validation).loss


def _steps(recipe: Recipe, data: TrainingData) -> int:
    """Of one pass, or a few less, so that all points lie at whole steps."""
    even = 4 * max(_PARTS)
    steps = len(data.tokens) // recipe.context // recipe.batch // even * even
    if steps == 0:
        needed = even * recipe.context * recipe.batch
        raise ValueError(f"the texts have {len(data.tokens)} tokens, fewer than {needed}")
    return steps


def _record(recipe: Recipe, data: TrainingData) -> dict[str, Any]:
    """All that the points depend on but the seed, with the bare names of files."""
    texts, held_out = [describe(path) for path in recipe.texts], describe(recipe.validation or "")
    names = {"texts": [text["name"] for text in texts], "validation": held_out["name"]}
    model = new_trainer(recipe, data.tokens, data.tokenizer, "cpu").model
    return {
        "recipe": {k: v for k, v in asdict(recipe).items() if k != "seed"} | names,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "unique_tokens": len(data.tokens),
        "decay_fraction": _DECAY,
        "rounded": f"matrices of the layers, integers in groups of {_GROUP} with zero points",
        "texts": texts,
        "held_out": held_out,
        "versions": recorded.versions(),
    }
