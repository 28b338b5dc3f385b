"""`minillm sample`: texts that a model writes from nothing, for a student to learn from.

A draft is judged on what its target writes, not on what people write. Training it on such texts as
well shows it where the target really goes.

Source: arXiv 2310.08461 (DistillSpec), section 4, on data from the target.
"""

import argparse
from collections.abc import Iterator
from itertools import count

from tokenizers import Tokenizer
from tqdm import tqdm

from minillm.checkpoint import load
from minillm.commands.named_path import named_path
from minillm.decoding import collect, decode_cached, generators
from minillm.fast.model import optimized
from minillm.files import write_whole
from minillm.sampling import Sampler
from minillm.tokens import END_OF_TEXT, encode
from minillm.transformer import Transformer

__all__ = ["add_arguments", "run", "sampled_texts"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=named_path, help="a shipped model or a folder")
    add("--out", type=named_path, required=True, help="text file to write")
    add("--tokens", type=int, required=True, help="stop after the text that reaches as many")
    add("--temperature", type=float, default=1.0, metavar="T", help="of the draws (1.0)")
    add("--rows", type=int, default=32, help="texts written at a time (32)")
    add("--seed", type=int, default=0, help="of the first text; the next have the next ones (0)")


def run(arguments: argparse.Namespace) -> None:
    """Write the file, texts separated as `minillm train` reads them.

    Raises:
        FileNotFoundError: a missing model, or no folder for the file.
        ValueError: a number out of its range, a file that is there, a model without end-of-text.
    """
    if arguments.out.exists():
        raise ValueError(f"{arguments.out} is there already: choose another name")
    if not arguments.out.parent.is_dir():
        raise FileNotFoundError(f"no folder {arguments.out.parent}")
    if arguments.tokens < 1 or arguments.rows < 1:
        raise ValueError("--tokens and --rows must be at least 1")
    if not 0 <= arguments.seed < 2**62:
        raise ValueError(f"--seed must be from 0 to 2**62 - 1, got {arguments.seed}")
    model, tokenizer = load(arguments.model)
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"{arguments.model} has no token {END_OF_TEXT}, which starts a text")
    sampler, texts, written = Sampler(arguments.temperature), list[str](), 0
    source = sampled_texts(optimized(model), tokenizer, sampler, arguments.rows, arguments.seed)
    with tqdm(total=arguments.tokens, unit="tok", unit_scale=True, disable=None) as bar:
        while written < arguments.tokens:
            text = next(source)
            size = len(encode(tokenizer, text))
            texts.append(text)
            written += size
            bar.update(size)
    joined = f"\n{END_OF_TEXT}\n".join(texts) + "\n"
    write_whole(arguments.out, lambda path: path.write_text(joined, encoding="utf-8"))
    print(f"{arguments.out}: {len(texts):,} texts, {written:,} tokens")


def sampled_texts(
    model: Transformer, tokenizer: Tokenizer, sampler: Sampler, rows: int, seed: int
) -> Iterator[str]:
    """Texts without end, each drawn with a seed of its own, whatever the number of rows."""
    end_of_text = encode(tokenizer, "")  # starts a text and ends it
    context = model.config.max_position_embeddings
    for first in count(seed, rows):
        steps = decode_cached(
            model,
            [end_of_text] * rows,
            max_new_tokens=context,
            sampler=sampler,
            generators=generators(first, rows),
            stop=end_of_text,
        )
        yield from (tokenizer.decode(tokens).strip() for tokens in collect(steps))
