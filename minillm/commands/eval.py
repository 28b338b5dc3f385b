"""`minillm eval`: how well a model predicts a text, repeats itself, and would accept a draft."""

import argparse
import json
import math
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from minillm.checkpoint import load
from minillm.commands.named_path import named_path
from minillm.data.heldout import bench_prompts, stories
from minillm.measure.evaluation import evaluate
from minillm.measure.repetition import repetition
from minillm.speedup.acceptance import acceptance
from minillm.tokens import encode, encode_all, same_tokens
from minillm.training.text_data import read_texts

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=named_path, help="a shipped model or a folder")
    parser.add_argument(
        "--text",
        action="append",
        metavar="FILE",
        help="UTF-8; may be repeated; default: the held-out stories of this package",
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
    texts = read_texts(arguments.text) if arguments.text else stories()
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
    if arguments.draft:
        shown = tqdm(prompts, desc="texts", leave=False, disable=None)
        figures["acceptance"] = asdict(acceptance(model, draft, shown))
    print(json.dumps(figures, indent=1) if arguments.json else _report(arguments, figures))


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
