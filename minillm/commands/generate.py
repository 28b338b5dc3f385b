"""`minillm generate "Once upon a time"`: write on, and say what it cost.

The text streams to stdout, the report (tokens/s of prefill and decode, bytes of the cache, what
multiplied the matrices) goes to stderr. The same command gives the same text; another `--seed`
gives another.
"""

import argparse
import sys
from collections.abc import Iterator

import torch
from tokenizers import Tokenizer

from minillm.checkpoint import opened, shipped
from minillm.commands.named_path import named_path
from minillm.config import ModelConfig
from minillm.decoding import Step, decode_cached, decode_recomputed, generators
from minillm.fast.model import kernel_names, optimized
from minillm.kv_cache import kv_bytes
from minillm.sampling import Sampler
from minillm.tokens import TextStream, encode

__all__ = ["add_arguments", "run"]

_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    models = ", ".join(shipped())
    add = parser.add_argument
    add("prompt", help="the beginning of the text")
    add(
        "--model",
        type=named_path,
        default="stories",
        help=f"{models}, a fetched model, a Hub id, a folder or a .gguf file (stories)",
    )
    add("--chat", action="store_true", help="the prompt is a question to a model that can chat")
    add("--max-new-tokens", type=int, default=200, metavar="N", help="stop after N tokens (200)")
    add("--temperature", type=float, default=0.7, metavar="T", help="0 is greedy (0.7)")
    add("--top-k", type=int, metavar="K", help="draw from the K most probable tokens (all)")
    add("--top-p", type=float, default=1.0, metavar="P", help="and the fewest that reach P (1.0)")
    add("--seed", type=int, default=0, help="of the draws (0)")
    add("--readable", action="store_true", help="decode with the readable model, not its fast twin")
    add("--no-cache", action="store_true", help="recompute the whole text for every token")
    add("--device", default="cpu", help="cpu, cuda, mps, ... (cpu)")
    add("--dtype", choices=_DTYPES, default="float32", help="of weights and cache (float32)")


def run(arguments: argparse.Namespace) -> None:
    _check(arguments.prompt, arguments.seed)
    sampler = Sampler(arguments.temperature, arguments.top_k, arguments.top_p)
    dtype = _DTYPES[arguments.dtype]
    checkpoint = opened(arguments.model)
    model, tokenizer = checkpoint.model(arguments.device, dtype), checkpoint.tokenizer
    if not (arguments.readable or arguments.no_cache):
        model = optimized(model)
    prompt = (
        checkpoint.chat(arguments.prompt) if arguments.chat else encode(tokenizer, arguments.prompt)
    )
    decode = decode_recomputed if arguments.no_cache else decode_cached
    steps = decode(
        model,
        [prompt],
        max_new_tokens=arguments.max_new_tokens,
        sampler=sampler,
        generators=generators(arguments.seed, 1),
        stop=checkpoint.ends,
    )
    report = _stream(steps, prompt, tokenizer, model.config, dtype, show_prompt=not arguments.chat)
    print(f"{report}; {kernel_names(model)}", file=sys.stderr)


def _check(prompt: str, seed: int) -> None:
    if not prompt.strip():
        raise ValueError("the prompt is empty: give the beginning of a text")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the prompt is not valid UTF-8") from error
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed must be from 0 to 2**63 - 1, got {seed}")


def _stream(
    steps: Iterator[Step],
    prompt: list[int],
    tokenizer: Tokenizer,
    config: ModelConfig,
    dtype: torch.dtype,
    *,
    show_prompt: bool,
) -> str:
    """Print each token as it comes, behind the prompt if that is shown; returns the report."""
    text = TextStream(tokenizer)

    def show(tokens: list[int]) -> None:
        print("".join(map(text.push, tokens)), end="", flush=True)

    if show_prompt:
        show(prompt)
    seconds: list[float] = []
    tokens, cached = 0, 0
    for step in steps:
        show(list(step.rows[0].tokens))
        seconds.append(step.seconds)
        tokens += len(step.rows[0].tokens) if len(seconds) > 1 else 0
        cached = step.cached[0]
    print(text.end(), flush=True)
    decode = f"{tokens / sum(seconds[1:]):.0f} tokens/s" if tokens else "no token"
    return (
        f"prefill {len(prompt)} tokens: {len(prompt) / seconds[0]:.0f} tokens/s; "
        f"decode {tokens} tokens: {decode}; "
        f"cache {cached} tokens: {kv_bytes(config, cached, dtype):,} bytes"
    )
