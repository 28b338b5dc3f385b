"""Tiny models and what stands in for one: scripted, counting and watching draws and drafters.

Dimensions: B batch, T new tokens, V vocabulary.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = [
    "STOP",
    "TOLERANCE",
    "Counting",
    "Guessing",
    "Scripted",
    "Watching",
    "close",
    "counted",
    "ragged_prompts",
    "tiny",
    "tiny_config",
    "tiny_pair",
    "tokens_of",
]

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}


def tiny_config(lib: ModuleType, **sizes):
    """Four query heads on two key/value heads, two layers, a context of 64."""
    defaults = {
        "vocab_size": 31,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "intermediate_size": 20,
        "max_position_embeddings": 64,
    }
    return lib.ModelConfig(**(defaults | sizes))


def tiny(lib: ModuleType, *, seed: int = 0, dtype: torch.dtype = torch.float64, **sizes):
    """A random model whose next tokens vary: biases and norms are random too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):  # where torch draws nothing of its own
        model = lib.Transformer(tiny_config(lib, **sizes))
    weights = {
        name: torch.empty(weight.shape, dtype=torch.float64).normal_(std=0.5, generator=generator)
        for name, weight in model.named_parameters()
    }
    tied = model.config.tie_word_embeddings
    model.load_state_dict(weights, assign=True, strict=not tied)
    if tied:
        model.head.weight = model.embed.weight
    return model.to(dtype).eval().requires_grad_(False)


def tokens_of(seed: int, *shape: int, vocabulary: int = 31) -> Tensor:
    """Random tokens."""
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor) -> bool:
    """Equal to rounding: 1e-11 in float64, 1e-5 in float32."""
    return a.shape == b.shape and bool((a - b).abs().max() < TOLERANCE[a.dtype])


def ragged_prompts(seed: int) -> list[list[int]]:
    """Five prompts of different lengths, the shortest a single token."""
    return [tokens_of(seed + i, n).tolist() for i, n in enumerate((7, 1, 12, 4, 9))]


# Guess and verify


def tiny_pair(lib: ModuleType, seed: int = 0, **sizes):
    """A target, and a draft that agrees with it often, but not always."""
    target, draft = tiny(lib, seed=seed, **sizes), tiny(lib, seed=seed, **sizes)
    generator = torch.Generator().manual_seed(seed)
    for weight in draft.parameters():
        weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return target, draft


class Watching:
    """A model that remembers the cache it was last given, and how often it was asked."""

    def __init__(self, model):
        self.model, self.config, self.head = model, model.config, model.head
        self.device, self.dtype, self.passes = model.device, model.dtype, 0

    def hidden(self, tokens: Tensor, cache, *, positions: Tensor | None = None) -> Tensor:
        self.cache, self.passes = cache, self.passes + 1
        return self.model.hidden(tokens, cache, positions=positions)


class Counting:
    """Behind a text the weights of the next tokens are table[sum(text) % 3].

    The sum is that of the tokens in the cache: an entry too many, too few or wrong changes it.
    """

    def __init__(self, lib: ModuleType, table: Sequence[Sequence[float]]):
        sizes = {"vocab_size": 3, "num_hidden_layers": 1, "num_key_value_heads": 1}
        self.config = tiny_config(lib, **sizes, head_dim=2)
        self.device, self.dtype = torch.device("cpu"), torch.float64
        self.logits = torch.tensor(table, dtype=torch.float64).log().clamp(min=-1e4)

    def hidden(self, tokens: Tensor, cache, *, positions: Tensor | None = None) -> Tensor:
        B, T = tokens.shape
        new = tokens[:, None, :, None].expand(B, 1, T, 2).double()
        keys, _ = cache.append(0, new, new)
        last = torch.tensor(cache.lengths)[:, None] + torch.arange(T)
        cache.advance(T)
        return keys[:, 0, :, 0].cumsum(1).gather(1, last)[..., None] % 3

    def head(self, hidden: Tensor) -> Tensor:
        return self.logits[hidden[..., 0].long()]


def counted(laws: Callable[[tuple[int, ...]], Sequence[Fraction]]) -> list[list[float]]:
    """The table with which a `Counting` model has these laws behind a text of sum 0."""
    return [[float(chance) for chance in laws((state,))] for state in range(3)]


class Scripted:
    """Continues prompts[b] with answers[b], whatever it is told; of a vocabulary of 31 tokens."""

    def __init__(self, lib: ModuleType, prompts, answers):
        self.config, self.device, self.dtype = tiny_config(lib), torch.device("cpu"), torch.float64
        script = [[0] * (len(p) - 1) + list(a) for p, a in zip(prompts, answers, strict=True)]
        self.script = torch.tensor([row + [0] * (80 - len(row)) for row in script])

    def hidden(self, tokens: Tensor, cache, *, positions: Tensor | None = None) -> Tensor:
        at = torch.tensor(cache.lengths)[:, None] + torch.arange(tokens.shape[1])
        cache.advance(tokens.shape[1])
        return self.script.gather(1, at)[..., None].double()

    def head(self, hidden: Tensor) -> Tensor:
        return one_hot(hidden[..., 0].long(), 31).double()


class Guessing:
    """A drafter that knows the answers, and says `wrong` in place of number `right`."""

    def __init__(self, lib: ModuleType, prompts, answers, right: int, wrong: int):
        self.lib, self.prompts, self.answers = lib, prompts, answers
        self.right, self.wrong = right, wrong

    def start(self, target, rows: int, capacity: int):
        return self

    def propose(self, texts, counts, sampler, u):
        proposals = []
        for text, prompt, answer, count in zip(
            texts, self.prompts, self.answers, counts, strict=True
        ):
            guesses = list(answer[len(text) - len(prompt) :][:count])
            guesses[self.right : self.right + 1] = [self.wrong][: len(guesses) - self.right]
            q = one_hot(torch.tensor(guesses, dtype=torch.int64), 31).double()
            proposals.append(self.lib.speculative.drafters.Proposal(tuple(guesses), q))
        return proposals

    def settle(self, texts) -> None:
        pass


STOP = 30
