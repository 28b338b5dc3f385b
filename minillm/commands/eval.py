"""`minillm eval`: how well a model predicts a text, repeats itself, and would accept a draft."""

import argparse
import json
import math
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from tqdm import tqdm

from minillm.checkpoint import load
from minillm.commands.named_path import named_path
from minillm.commands.table import table
from minillm.data.heldout import bench_prompts, in_domain_stories, stories
from minillm.measure.divergence import Interval, divergences, interval
from minillm.measure.evaluation import evaluate
from minillm.measure.repetition import repetition
from minillm.quantization.simulated import rounded
from minillm.quantization.spec import Spec
from minillm.speedup.acceptance import acceptance
from minillm.tokens import encode, encode_all, same_tokens
from minillm.training.text_data import read_texts
from minillm.transformer import Transformer

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known = "a shipped or fetched model, a Hub id, a folder or a .gguf file (stories)"
    parser.add_argument("--model", type=named_path, default="stories", help=known)
    parser.add_argument(
        "--text",
        action="append",
        metavar="FILE",
        help="UTF-8; may be repeated; default: the held-out stories of this package",
    )
    parser.add_argument(
        "--in-domain",
        action="store_true",
        help="read the held-out stories in the manner of TinyStories instead",
    )
    parser.add_argument(
        "--rounded",
        nargs="+",
        default=[],
        metavar="FORMAT[:GROUP]",
        help="round it to nearest, and tell each format's loss added and KL, by text",
    )
    parser.add_argument(
        "--draft", type=named_path, help="a model to be accepted from, on the bench's prompts"
    )
    parser.add_argument(
        "--repetition", action="store_true", help="let it write from the bench's prompts as well"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Print the figures.

    Raises:
        FileNotFoundError: a missing model or text.
        ValueError: a text that is not UTF-8, or has tokens beyond the model's embedding; a draft
            with other tokens.
    """
    model, tokenizer = load(arguments.model)
    if arguments.draft:
        draft, its_tokenizer = load(arguments.draft)
        if not same_tokens(its_tokenizer, tokenizer):
            raise ValueError(f"{arguments.draft} and {arguments.model} have different tokens")
    if arguments.text and arguments.in_domain:
        raise ValueError("--text and --in-domain are two texts: take one of them")
    own = in_domain_stories if arguments.in_domain else stories
    texts = read_texts(arguments.text) if arguments.text else own()
    specs = {name: _spec(name) for name in arguments.rounded}
    found = evaluate(model, encode_all(tokenizer, texts))
    figures: dict[str, Any] = {
        "tokens": found.tokens,
        "loss": found.loss,
        "perplexity": math.exp(found.loss),
        "bits_per_byte": found.bits_per_byte(sum(len(text.encode()) for text in texts)),
        "gate_zeros": found.gate_zeros,
    }
    prompts = [encode(tokenizer, prompt) for prompt in bench_prompts()]
    if arguments.repetition:
        figures["distinct_4_grams"] = {
            f"temperature {temperature}": asdict(repetition(model, prompts, temperature))
            for temperature in (0.7, 0.0)
        }
    if specs:
        tokens = [encode(tokenizer, text) for text in texts]
        figures["rounded"], figures["differences"] = _formats(model, specs, tokens)
    if arguments.draft:
        shown = tqdm(prompts, desc="texts", leave=False, disable=None)
        figures["acceptance"] = asdict(acceptance(model, draft, shown))
    print(json.dumps(figures, indent=1) if arguments.json else _report(arguments, figures))


def _spec(name: str) -> Spec:
    """Of the command line's FORMAT[:GROUP]."""
    form, _, group = name.partition(":")
    shared: Any = int(group) if group.isdecimal() else group or None
    return Spec(form, shared)


def _formats(
    model: Transformer, specs: dict[str, Spec], tokens: list[list[int]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each format's loss added and KL, and the differences between neighbours in order of KL."""
    models = {name: rounded(model, spec) for name, spec in specs.items()}
    found = divergences(model, models, tokens)
    order = sorted(found, key=lambda name: found[name].kl.sum())
    each = {
        name: {
            "added": asdict(interval(found[name].added, found[name].tokens)),
            "kl": asdict(interval(found[name].kl, found[name].tokens)),
        }
        for name in order
    }
    pairs = {}
    for less, more in pairwise(order):
        a, b = found[less], found[more]
        pairs[f"{more} - {less}"] = {
            "added": asdict(interval(b.added - a.added, a.tokens)),
            "kl": asdict(interval(b.kl - a.kl, a.tokens)),
        }
    return each, pairs


def _report(arguments: argparse.Namespace, figures: dict[str, Any]) -> str:
    zeros = figures["gate_zeros"]
    lines = [
        f"{arguments.model} on {figures['tokens']:,} tokens",
        f"  loss           {figures['loss']:.4f} nats a token",
        f"  perplexity     {figures['perplexity']:.3f}",
        f"  bits per byte  {figures['bits_per_byte']:.4f}",
        f"  gate zeros     {sum(zeros) / len(zeros):.1%} on average, by layer "
        + " ".join(f"{share:.1%}" for share in zeros),
    ]
    if "rounded" in figures:
        lines.append("  in nats a token, with 95 % intervals over texts (bootstrap):")
        rows = [
            (name, *(str(Interval(**found[what])) for what in ("added", "kl")))
            for name, found in (figures["rounded"] | figures["differences"]).items()
        ]
        both = table(("", "loss added", "KL(original || rounded)"), rows)
        lines += [f"    {line}" for line in both.splitlines()]
    for name, found in figures.get("distinct_4_grams", {}).items():
        lines.append(
            f"  at {name}, distinct 4-grams {found['mean']:.1%} on average, {found['lowest']:.1%} "
            f"at worst, below 90 % in {found['below_90_percent']} of {found['texts']} texts"
        )
    if "acceptance" in figures:
        found = figures["acceptance"]
        lines += [
            f"  accepts of {arguments.draft}, on {found['tokens']:,} tokens of its own texts",
            f"    greedy         {found['greedy']:.3f}",
            f"    temperature 1  {found['sampled']:.3f}",
        ]
    return "\n".join(lines)
