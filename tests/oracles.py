"""What must be true of the library, as functions that assert it.

Each takes the library as an argument, so that the same check passes on `minillm` and, in
`test_mutations.py`, fails on a copy with a known bug planted in it. Models are tiny and random; in
float64, two ways to compute one thing agree to 1e-11.

Dimensions: B batch, T new tokens, S cached + new keys, V vocabulary.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise, product
from math import ceil
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from minillm.bench.greedy import equal_tokens
from minillm.data.heldout import openings
from minillm.fast.model import optimized
from minillm.speculative.exactness import joint_law, proposal_law, text_law, toy_draft, toy_target
from minillm.speedup.formulas import AdaptiveGamma

__all__ = [
    "STOP",
    "TOLERANCE",
    "Counting",
    "Guessing",
    "Overhearing",
    "Placed",
    "Scripted",
    "Summing",
    "Watching",
    "a_perfect_draft",
    "a_perfect_pool",
    "attend_by_hand",
    "caches_of_rounds",
    "chunked_prefill",
    "close",
    "copied_law",
    "counted",
    "decoded_law",
    "decoders_agree",
    "drawn_law",
    "edges_of_u",
    "ends_in_blocks",
    "interrupted_forward",
    "kept_rows",
    "lookahead_mask",
    "lookups",
    "no_residual",
    "one_by_one",
    "parallel_agrees",
    "parallel_by_hand",
    "parallel_caches",
    "parallel_decoders",
    "parallel_law",
    "paths_of_a_pass",
    "picks_inverse_cdf",
    "pool_of",
    "ragged_rows",
    "rows_alone",
    "same_texts_in_float32",
    "same_texts_in_float64",
    "shaped_law",
    "speculates_by_hand",
    "speculates_greedily",
    "stale_slots",
    "step_invariants",
    "tiny",
    "tiny_config",
    "tiny_pair",
    "tokens_of",
    "tree_of_guesses",
    "truncate_and_continue",
    "verified_law",
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


def _prompts(seed: int) -> list[list[int]]:
    """Five prompts of different lengths, the shortest a single token."""
    return [tokens_of(seed + i, n).tolist() for i, n in enumerate((7, 1, 12, 4, 9))]


# Model and cache


def one_by_one(lib: ModuleType, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
    """Full forward == prefill, then one token at a time."""
    model, tokens = tiny(lib, seed=seed, dtype=dtype), tokens_of(seed, 2, 20)
    cache = lib.KVCache(model.config, 2, 20, dtype=dtype)
    parts = [model(tokens[:, :5], cache)]
    parts += [model(tokens[:, i : i + 1], cache) for i in range(5, 20)]
    assert close(torch.cat(parts, dim=1), model(tokens))
    assert list(cache.lengths) == [20, 20]


def chunked_prefill(lib: ModuleType, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
    """Full forward == any chunking of it: t new tokens over s cached ones align lower right."""
    model, tokens = tiny(lib, seed=seed, dtype=dtype), tokens_of(seed, 2, 30)
    cuts = [0, *sorted(random.Random(seed).sample(range(1, 30), 4)), 30]
    cache = lib.KVCache(model.config, 2, 30, dtype=dtype)
    parts = [model(tokens[:, start:end], cache) for start, end in pairwise(cuts)]
    assert close(torch.cat(parts, dim=1), model(tokens))


def _prefill(lib: ModuleType, model, prompts: Sequence[Sequence[int]], capacity: int = 40):
    """A cache with ragged prompts: right-padded, forwarded, truncated."""
    longest = max(map(len, prompts))
    padded = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    cache = lib.KVCache(model.config, len(prompts), capacity, dtype=model.dtype)
    logits = model(padded, cache)
    cache.truncate([len(prompt) for prompt in prompts])
    return cache, logits


def stale_slots(lib: ModuleType, seed: int = 0, T: int = 1) -> None:
    """What stands behind `lengths` changes no bit of any logit."""
    model, tokens = tiny(lib, seed=seed), tokens_of(seed, 5, T)
    clean, poisoned = (_prefill(lib, model, _prompts(seed))[0] for _ in range(2))
    for row, length in enumerate(list(poisoned.lengths)):
        poisoned.keys[:, row, :, length:] = 1e9
        poisoned.values[:, row, :, length:] = 1e9
    assert torch.equal(model(tokens, poisoned), model(tokens, clean))


def truncate_and_continue(lib: ModuleType, seed: int = 0) -> None:
    """Going back to k tokens and on with others == a fresh run of the text that results."""
    model, tokens = tiny(lib, seed=seed), tokens_of(seed, 1, 20)
    cache = lib.KVCache(model.config, 1, 20, dtype=torch.float64)
    model(tokens, cache)
    for k, T in ((11, 1), (11, 4), (3, 17), (0, 2)):
        cache.truncate([k])
        other = tokens_of(seed + 1, 1, T)
        text = torch.cat((tokens[:, :k], other), dim=1)
        assert close(model(other, cache), model(text)[:, k:])
        assert list(cache.lengths) == [k + T]
        tokens = text


def ragged_rows(lib: ModuleType, seed: int = 0) -> None:
    """Rows of different lengths in one cache == each row alone, as they grow and go back."""
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
    cache, logits = _prefill(lib, model, prompts)
    texts = [list(prompt) for prompt in prompts]
    for b, text in enumerate(texts):
        assert close(logits[b, : len(text)], model(torch.tensor([text]))[0])
    for round_, T in enumerate((1, 3, 1, 5)):
        new = tokens_of(seed + round_, len(texts), T)
        logits = model(new, cache)
        for b, text in enumerate(texts):
            text += new[b].tolist()
            assert close(logits[b], model(torch.tensor([text]))[0, -T:])
            del text[len(text) - (b + round_) % (T + 1) :]
        cache.truncate([len(text) for text in texts])


def interrupted_forward(lib: ModuleType, seed: int = 0) -> None:
    """An exception in the last layer leaves the cache where it was."""
    model, tokens = tiny(lib, seed=seed), tokens_of(seed, 1, 9)
    cache = lib.KVCache(model.config, 1, 12, dtype=torch.float64)
    model(tokens[:, :5], cache)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hook = model.blocks[-1].mlp.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(tokens_of(seed + 1, 1, 6), cache)
    hook.remove()
    assert list(cache.lengths) == [5]
    assert close(model(tokens[:, 5:], cache), model(tokens)[:, 5:])


def kept_rows(lib: ModuleType, seed: int = 0) -> None:
    """`keep` leaves the cache of a run that had forwarded only the tokens kept."""
    model, prompts = tiny(lib, seed=seed), _prompts(seed)[:3]
    kept, T = [[0, 2, 5], [], [1, 3]], 6
    start = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    depth = torch.zeros(3, T, dtype=torch.int64)
    mask = torch.zeros(3, T, T, dtype=torch.bool)
    for b, path in enumerate(kept):  # kept tokens see the ones before; the others, themselves
        for d, i in enumerate(path):
            mask[b, i, path[: d + 1]] = True
            depth[b, i] = d
    mask |= torch.eye(T, dtype=torch.bool)
    new = tokens_of(seed, 3, T)
    cache, _ = _prefill(lib, model, prompts)
    model(new, cache, positions=start + depth, mask=mask)
    cache.keep(kept)
    texts = [[*p, *new[b, kept[b]].tolist()] for b, p in enumerate(prompts)]
    assert list(cache.lengths) == [len(text) for text in texts]
    for b, text in enumerate(texts):
        alone, _ = _prefill(lib, model, [text])
        n = len(text)
        assert close(cache.keys[:, b, :, :n], alone.keys[:, 0, :, :n])
        assert close(cache.values[:, b, :, :n], alone.values[:, 0, :, :n])
    after = tokens_of(seed + 1, 3, 2)
    logits = model(after, cache)
    for b, text in enumerate(texts):
        assert close(logits[b], model(torch.tensor([text + after[b].tolist()]))[0, -2:])


def tree_of_guesses(lib: ModuleType, seed: int = 0) -> None:
    """Branches of guesses in one forward == each branch forwarded in sequence."""
    parents = [None, 0, 1, 0, 3, 3, None, 6]
    paths: list[list[int]] = []
    for i, parent in enumerate(parents):
        paths.append([*([] if parent is None else paths[parent]), i])
    mask = torch.zeros(8, 8, dtype=torch.bool)
    for i, path in enumerate(paths):
        mask[i, path] = True
    depth = torch.tensor([len(path) - 1 for path in paths])
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
    guesses = tokens_of(seed + 1, len(prompts), 8)
    for rows in ([0], [0, 1, 2, 3, 4], [2, 2]):  # a text alone, ragged rows, equal rows
        texts = [prompts[b] for b in rows]
        cache, _ = _prefill(lib, model, texts)
        start = torch.tensor([len(text) for text in texts])[:, None]
        for shape in (mask, mask.expand(len(rows), 8, 8)):
            logits = model(guesses[rows], cache, positions=start + depth, mask=shape)
            cache.truncate(start[:, 0].tolist())
            for b, text in enumerate(texts):
                for i, path in enumerate(paths):
                    branch = torch.tensor([text + guesses[rows[b], path].tolist()])
                    assert close(logits[b, i], model(branch)[0, -1])


def attend_by_hand(lib: ModuleType, seed: int = 0) -> None:
    """`Attend` and `attention_weights` == softmax attention head by head, token by token."""
    Attend, attention_weights = lib.attention.Attend, lib.attention.attention_weights
    generator = torch.Generator().manual_seed(seed)
    B, H, G, D = 2, 6, 2, 4
    for T, S, masked in ((5, 5, False), (1, 7, False), (3, 7, True), (1, 7, True)):
        q, k, v = (
            torch.randn(B, heads, n, D, generator=generator, dtype=torch.float64)
            for heads, n in ((H, T), (G, S), (G, S))
        )
        mask = torch.rand(B, 1, T, S, generator=generator) < 0.5 if masked else None
        if mask is not None:
            mask[..., 0] = True
        out, weights = Attend()(q, k, v, mask), attention_weights(q, k, mask)
        for b in range(B):
            for h in range(H):
                group = h // (H // G)  # the first H/G query heads share the first key/value head
                for t in range(T):
                    visible = torch.arange(S) <= S - T + t if mask is None else mask[b, 0, t]
                    scores = k[b, group] @ q[b, h, t] / D**0.5
                    expected = torch.where(visible, scores.exp(), 0.0)
                    expected /= expected.sum()
                    assert close(weights[b, h, t], expected)
                    assert close(out[b, h, t], expected @ v[b, group])


# Sampling and decoding


def picks_inverse_cdf(lib: ModuleType, seed: int = 0) -> None:
    """`pick` on all dyadic distributions of four tokens and all cells of u, their edges too."""
    pick = lib.sampling.pick
    n = 8
    counts = torch.cartesian_prod(*[torch.arange(n + 1)] * 4)
    counts = counts[counts.sum(1) == n]  # all ways to split n eighths among four tokens
    p = counts.double() / n
    cells = torch.arange(n, dtype=torch.float64) / n
    first = torch.tensor(
        [[t for t, c in enumerate(row) for _ in range(c)] for row in counts.tolist()]
    )
    for inside in (0.0, 0.5 / n, 1 / n - 2**-53):
        u = (cells + inside).expand(len(p), n)
        assert torch.equal(pick(p[:, None].expand(-1, n, -1), u), first)
    last = torch.full((len(p),), 1 - 2**-53, dtype=torch.float64)
    assert torch.equal(pick(p, last), first[:, -1])


def decoders_agree(lib: ModuleType, seed: int = 0, temperature: float = 1.0) -> None:
    """`decode_cached` commits the tokens of `decode_recomputed`, rows and stops ragged."""
    model, sampler = tiny(lib, seed=seed), lib.Sampler(temperature, top_k=20, top_p=0.95)
    runs = [
        lib.collect(
            decode(
                model,
                _prompts(seed),
                max_new_tokens=60,
                sampler=sampler,
                generators=lib.generators(seed, 5),
                stop={3, 11},
            )
        )
        for decode in (lib.decode_recomputed, lib.decode_cached)
    ]
    assert runs[0] == runs[1]


def rows_alone(lib: ModuleType, seed: int = 0, temperature: float = 1.0) -> None:
    """A row of a ragged batch == the row alone: its tokens, and what its generator has left."""
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
    sampler = lib.Sampler(temperature)
    for decode in (lib.decode_recomputed, lib.decode_cached):
        together, apart = lib.generators(seed, 5), lib.generators(seed, 5)
        options = {"max_new_tokens": 25, "sampler": sampler, "stop": {3, 11, 17}}
        texts = lib.collect(decode(model, prompts, generators=together, **options))
        for b, prompt in enumerate(prompts):
            alone = decode(model, [prompt], generators=[apart[b]], **options)
            assert texts[b] == lib.collect(alone)[0]
            assert torch.equal(together[b].get_state(), apart[b].get_state())
        assert len({len(text) for text in texts}) > 1  # the rows did end at different times


def step_invariants(lib: ModuleType, seed: int = 0) -> None:
    """What every `Step` says of the cache, of the work, and of the ends of rows."""
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
    options = {"max_new_tokens": 20, "stop": {3, 11, 17}}
    for decode in (lib.decode_recomputed, lib.decode_cached):
        texts, ended = [list(prompt) for prompt in prompts], [False] * 5
        for forwards, step in enumerate(decode(model, prompts, **options), 1):
            assert not all(ended)
            lengths = [len(text) for text in texts]  # what the forward pass could read
            for b, row in enumerate(step.rows):
                assert len(row.tokens) == (0 if ended[b] else 1)
                assert row.logits.shape == (len(row.tokens), model.config.vocab_size)
                texts[b] += row.tokens
                ended[b] |= row.tokens[-1:] in ((3,), (11,), (17,))
                ended[b] |= len(texts[b]) == len(prompts[b]) + 20
                assert row.ended == ended[b]
            assert step.forwards == forwards
            assert step.seconds >= 0
            if decode is lib.decode_cached:
                assert step.cached == tuple(len(text) - 1 for text in texts)
                assert step.computed == (5 * max(lengths) if forwards == 1 else 5)
            else:
                assert step.cached == (0,) * 5
                assert step.computed == 5 * max(lengths)
        assert all(ended)


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


def verified_law(lib: ModuleType, gamma: int = 2) -> None:
    """What a round emits has the target's law, over all cells of all uniforms."""
    verify = lib.speculative.verification.verify
    assert joint_law(verify, toy_target, toy_draft, gamma) == text_law(toy_target, gamma + 1)


def no_residual(lib: ModuleType) -> None:
    """Where p has no more than q anywhere, what is added is drawn from p, and never NaN."""
    for p in ([0.25, 0.5, 0.25], [0.0, 0.0, 1.0], [0.1, 0.2, 0.7]):
        law = torch.tensor(p, dtype=torch.float64)
        assert torch.equal(lib.speculative.verification.residual(law, law), law)
        assert torch.equal(lib.speculative.verification.residual(law, law + 1e-17), law)


def edges_of_u(lib: ModuleType) -> None:
    """At both ends of a uniform: no guess without mass is kept, none with more than q is lost."""
    p, q = (
        torch.tensor(rows, dtype=torch.float64)
        for rows in ([[0.0, 0.7, 0.3], [0.0, 0.0, 1.0]], [[0.6, 0.2, 0.2]])
    )
    for u in (0.0, 1 - 2**-53):
        for guess, kept in enumerate((0, 1, 1)):
            numbers = torch.full((2,), u, dtype=torch.float64)
            accepted, token = lib.speculative.verification.verify(
                p, q, torch.tensor([guess]), numbers
            )
            assert accepted == kept
            assert token == 2 if kept else token > 0


def drawn_law(lib: ModuleType, seed: int = 0) -> None:
    """A draft model's guesses have the law that it says they have."""
    model = tiny(lib, seed=seed)
    for sampler in (lib.Sampler(0.7), lib.Sampler(top_k=5), lib.Sampler(top_p=0.6), lib.GREEDY):
        drawn, q = proposal_law(
            lib.speculative.drafters.DraftModel(model), model.config, [1, 2, 3], sampler
        )
        assert close(drawn, q)
        assert close(q, sampler.probabilities(model(torch.tensor([[1, 2, 3]]))[0, -1]))


def decoded_law(
    lib: ModuleType,
    target=None,
    drafter=None,
    *,
    gamma: int = 1,
    sampler=None,
    prompt: Sequence[int] = (0,),
    grids: Sequence[Sequence[float]] = (),
    wanted: Callable[[tuple[int, ...]], Sequence[Fraction]] = toy_target,
    whole: int | None = None,
) -> None:
    """What `decode_speculative` emits has the target's law, over all cells of all uniforms.

    Every row of one batch is fed the midpoints of other cells: row by row, one of the product of
    `grids`. Looked at are the first round, and the target's law behind it; or runs of `whole`
    tokens.
    """
    target = target or Counting(lib, counted(toy_target))
    drafter = drafter or lib.speculative.drafters.DraftModel(Counting(lib, counted(toy_draft)))
    quarters = (0.125, 0.375, 0.625, 0.875)
    script = [list(u) for u in product(*(grids or [quarters] * (2 * gamma + 1)))]
    rows, sampler, size = len(script), sampler or lib.Sampler(), whole or gamma + 1

    def uniforms(batch, b: int, count: int) -> Tensor:
        numbers, script[b] = script[b][:count], script[b][count:]
        return torch.tensor(numbers, dtype=torch.float64)

    with patch.object(lib.batch.Batch, "uniforms", uniforms):
        steps = lib.speculative.decode.decode_speculative(
            target,
            [list(prompt)] * rows,
            drafter=drafter,
            gamma=gamma,
            max_new_tokens=whole or 9,
            sampler=sampler,
            generators=lib.generators(0, 1) * rows,
        )
        texts = lib.collect(steps if whole else iter([next(steps)]))
    law: Counter[tuple[int, ...]] = Counter()
    for text, times in Counter(map(tuple, texts)).items():
        for rest, chance in text_law(wanted, size - len(text), text).items():
            law[rest] += times * chance / rows
    assert law == text_law(wanted, size)


def copied_law(lib: ModuleType, gamma: int = 2) -> None:
    """`decoded_law` where the guesses are copied from the text."""
    twelfths = [(i + 0.5) / 12 for i in range(12)]  # a rejected token leaves thirds
    grids = [[0.5]] * gamma + [[0.125, 0.375, 0.625, 0.875]] * gamma + [twelfths]
    lookup, prompt = (
        lib.speculative.prompt_lookup.PromptLookup(),
        (1, 2, 0, 1, 0, 2, 1, 2),
    )  # 0, 1, 0, 2 follow
    decoded_law(lib, None, lookup, gamma=gamma, prompt=prompt, grids=grids)


def shaped_law(lib: ModuleType, gamma: int = 1, **shape: float) -> None:
    """`decoded_law` where top-k or top-p leaves two of three tokens, to target and draft."""
    kept = ((3, 1, 0), (1, 0, 1), (0, 1, 3))  # of the target's weights, in equal parts

    def wanted(text: tuple[int, ...]) -> list[Fraction]:
        weights = kept[sum(text) % 3]
        return [Fraction(n, sum(weights)) for n in weights]

    target = Counting(lib, [(6, 2, 1), (4, 1, 4), (1, 2, 6)])
    draft = lib.speculative.drafters.DraftModel(Counting(lib, [(4, 4, 1), (4, 4, 1), (1, 4, 4)]))
    sampler, quarters = lib.Sampler(**(shape or {"top_k": 2})), [0.125, 0.375, 0.625, 0.875]
    options = {"gamma": gamma, "sampler": sampler, "wanted": wanted}
    decoded_law(lib, target, draft, **options)
    grids = [[0.5]] * gamma + [quarters] * (gamma + 1)
    lookup, prompt = lib.speculative.prompt_lookup.PromptLookup(), (1, 0, 1, 1, 0)
    decoded_law(lib, target, lookup, prompt=prompt, grids=grids, **options)


def _by_model(model, sampler) -> Callable[[list[int], list[int]], list[float] | None]:
    """The law of the token behind text and guesses, by a forward pass over all of them."""
    return lambda text, guesses: sampler.probabilities(
        model(torch.tensor([text + guesses]))[0, -1]
    ).tolist()


def _by_lookup(text: list[int], guesses: list[int]) -> list[float] | None:
    """All mass on what followed the latest earlier occurrence of at most three last tokens."""
    ends = [
        (n, end)
        for n in (1, 2, 3)
        for end in range(n, len(text))
        if text[end - n : end] == text[-n:]
    ]
    if not ends:
        return None
    follows = text[max(ends)[1] :][len(guesses) :]
    return [float(token == follows[0]) for token in range(31)] if follows else None


def _inverse(law: Sequence[float], u: float) -> int:
    """The token at which the sums of the law first exceed u of the whole."""
    below, whole = 0.0, sum(law)
    for token, share in enumerate(law):
        below += share
        if share and below > u * whole:
            return token
    return max(token for token, share in enumerate(law) if share)


def rounds_by_hand(
    lib: ModuleType, model, guess, gamma, prompt, budget, sampler, generator, stop
) -> Iterator[tuple[list[int], int, list[int]]]:
    """Guess and verify for one row, without cache, batch or tensors; the naive reference.

    Of each round: the guesses, how many were accepted, the tokens committed.
    """
    law, text, accepted, judged = _by_model(model, sampler), list(prompt), 0, 0
    limit = min(len(prompt) + budget, model.config.max_position_embeddings)
    while True:
        n = min(gamma(accepted, judged), limit - len(text) - 1)
        u = [0.0] * (2 * n + 1)
        if sampler.temperature > 0:
            u = torch.rand(2 * n + 1, generator=generator, dtype=torch.float64).tolist()
        guesses: list[int] = []
        claims: list[list[float]] = []
        while len(guesses) < n and (q := guess(text, guesses)):
            guesses.append(_inverse(q, u[len(guesses)]))
            claims.append(q)
        new: list[int] = []
        for x, q in zip(guesses, claims, strict=True):
            p = law(text, new)
            if u[n + len(new)] * q[x] >= p[x]:
                rest = [max(a - b, 0) for a, b in zip(p, q, strict=True)]
                new.append(_inverse(rest, u[n + len(guesses)]))
                break
            new.append(x)
        else:
            new.append(_inverse(law(text, new), u[n + len(guesses)]))
        accepted, judged = accepted + len(new) - 1, judged + min(len(new), len(guesses))
        ends = [i for i, x in enumerate(new, 1) if x in stop or len(text) + i == limit]
        yield guesses, len(new) - 1, new[: min(ends, default=len(new))]
        text += new
        if ends:
            return


def speculates_by_hand(lib: ModuleType, seed: int = 0) -> None:
    """Rounds of ragged rows == those of the naive reference, row by row, and their randomness."""
    choose = random.Random(seed).choice
    target, draft = tiny_pair(lib, seed)
    sampler = choose(
        [lib.GREEDY, lib.Sampler(), lib.Sampler(0.7, top_p=0.8), lib.Sampler(1.5, top_k=4)]
    )
    drafter, guess = choose(
        [
            (lib.speculative.drafters.DraftModel(draft), _by_model(draft, sampler)),
            (lib.speculative.drafters.DraftModel(draft), _by_model(draft, sampler)),
            (lib.speculative.prompt_lookup.PromptLookup(), _by_lookup),
            _early_exit(lib, target, sampler),
        ]
    )
    gamma = choose([*range(1, 9), AdaptiveGamma(0.1, (1.0, *[1 + 0.02 * n for n in range(1, 7)]))])
    rule = gamma.choose if isinstance(gamma, AdaptiveGamma) else lambda accepted, judged: gamma
    context = target.config.max_position_embeddings
    lengths = [1, choose(range(1, 20)), choose(range(context - 9, context)), context - 1]
    prompts = [
        (choose([1, 3]) * tokens_of(seed + i, n).tolist())[-n:] for i, n in enumerate(lengths)
    ]
    random.Random(seed).shuffle(prompts)
    budget, stop = choose([1, 2, 5, 12, 30, 100]), choose([(), (3,), (3, 11, 17)])
    together, apart = lib.generators(seed, 4), lib.generators(seed, 4)
    steps = list(
        lib.speculative.decode.decode_speculative(
            target,
            prompts,
            drafter=drafter,
            gamma=gamma,
            max_new_tokens=budget,
            sampler=sampler,
            generators=together,
            stop=stop,
        )
    )
    for b, prompt in enumerate(prompts):
        found = [step.rows[b] for step in steps]
        wanted = list(
            rounds_by_hand(lib, target, guess, rule, prompt, budget, sampler, apart[b], stop)
        )
        live = [(list(r.guesses), r.accepted, list(r.tokens)) for r in found if r.tokens]
        assert live == wanted
        assert [row.ended for row in found] == [i + 1 >= len(wanted) for i in range(len(found))]
        assert torch.equal(together[b].get_state(), apart[b].get_state())


def _early_exit(lib: ModuleType, target, sampler):
    draft = lib.speculative.drafters.early_exit(target, 1)
    return lib.speculative.drafters.DraftModel(draft), _by_model(draft, sampler)


def speculates_greedily(lib: ModuleType, seed: int = 0, gammas: Sequence[int] = (3,)) -> None:
    """Temperature 0: the tokens of `decode_cached`, with each drafter, ragged rows, stops."""
    target, draft = tiny_pair(lib, seed)
    early = lib.speculative.drafters.early_exit(target, 1)
    drafters = [lib.speculative.drafters.DraftModel(m) for m in (draft, early)] + [
        lib.speculative.prompt_lookup.PromptLookup()
    ]
    for budget, stop in ((1, ()), (2, (3, 11)), (12, (3, 11, 17))):
        for prompts in (_prompts(seed), _prompts(seed)[1:2]):
            options = {"max_new_tokens": budget, "stop": stop}
            plain = lib.collect(lib.decode_cached(target, prompts, **options))
            for gamma, drafter in product(gammas, drafters):
                found = lib.collect(
                    lib.speculative.decode.decode_speculative(
                        target, prompts, drafter=drafter, gamma=gamma, **options
                    )
                )
                assert found == plain


def caches_of_rounds(lib: ModuleType, seed: int = 0, temperature: float = 1.0) -> None:
    """After every round both caches hold what a fresh prefill of the text would."""
    target, draft = map(Watching, tiny_pair(lib, seed))
    texts = [list(prompt) for prompt in _prompts(seed)]
    steps = lib.speculative.decode.decode_speculative(
        target,
        texts,
        drafter=lib.speculative.drafters.DraftModel(draft),
        gamma=3,
        max_new_tokens=24,
        sampler=lib.Sampler(temperature),
        generators=lib.generators(seed, len(texts)),
        stop=(3, 11),
    )
    fates: set[int] = set()
    for step in steps:
        held = list(target.cache.lengths), list(draft.cache.lengths)
        for b, (text, row) in enumerate(zip(texts, step.rows, strict=True)):
            text += row.tokens
            assert held[0][b] == step.cached[b] == len(text) - 1
            if row.guesses and not row.ended:
                fates.add(row.accepted)
                whole = row.accepted == len(row.guesses)
                assert held[1][b] == len(text) - (2 if whole else 1)  # the last guess is unread
            for model, lengths in zip((target, draft), held, strict=True):
                n = lengths[b]
                if n:
                    fresh, _ = _prefill(lib, model.model, [text[:n]])
                    for part in ("keys", "values"):
                        cached = getattr(model.cache, part)[:, b, :, :n]
                        assert close(cached, getattr(fresh, part)[:, 0, :, :n])
    assert len(fates) > 2


def ends_in_blocks(lib: ModuleType) -> None:
    """A stop token or the budget ends a row at any place of a block, guessed or added.

    A stop token that is guessed and rejected ends nothing.
    """
    prompts = [[STOP, 5, 6], [STOP]]
    for gamma in (1, 2, 4):
        for right, end, wrong in product(range(gamma + 1), range(9), (29, STOP)):
            answers = [list(range(1, 10)), list(range(11, 20))]
            budget, stopped = (9, STOP) if wrong == 29 else (end + 1, 7)
            answers[0][end] = stopped
            for stop in [(STOP,)] if wrong == STOP else [(), (STOP,)]:
                model = Scripted(lib, prompts, answers)
                steps = list(
                    lib.speculative.decode.decode_speculative(
                        model,
                        prompts,
                        drafter=Guessing(lib, prompts, answers, right, wrong),
                        gamma=gamma,
                        max_new_tokens=budget,
                        stop=stop,
                    )
                )
                expected = [answer[:budget] for answer in answers]
                if stop and stopped == STOP:
                    expected[0] = answers[0][: end + 1]
                assert lib.collect(iter(steps)) == expected
                for step in steps:
                    for row in step.rows:
                        assert row.accepted == min(right, len(row.guesses))
                        assert row.judged == min(right + 1, len(row.guesses))
                        assert len(row.tokens) == len(row.logits) <= row.accepted + 1
                        assert (len(row.tokens) == row.accepted + 1) or row.ended
                assert [step.rows[0].ended for step in steps][-1]


def a_perfect_draft(lib: ModuleType, seed: int = 0) -> None:
    """The target as its own draft: all guesses accepted, ceil(n / (gamma + 1)) passes."""
    for gamma, n, temperature in product((1, 2, 4), (1, 2, 5, 13), (0, 1.0)):
        target = Watching(tiny(lib, seed=seed))
        steps = list(
            lib.speculative.decode.decode_speculative(
                target,
                [[1, 2, 3]],
                drafter=lib.speculative.drafters.DraftModel(target.model),
                gamma=gamma,
                max_new_tokens=n,
                sampler=lib.Sampler(temperature),
                generators=lib.generators(seed, 1),
            )
        )
        assert target.passes == len(steps) == steps[-1].forwards == ceil(n / (gamma + 1))
        assert all(row.accepted == len(row.guesses) for step in steps for row in step.rows)
        assert sum(len(step.rows[0].tokens) for step in steps) == n


def lookups(lib: ModuleType) -> None:
    """What followed the latest earlier occurrence of the longest repeated end of a text."""
    for text, follows in (
        ([1, 2, 3, 9, 2, 3], [9, 2, 3]),
        ([1, 2, 3], []),
        ([5], []),
        ([5, 5], [5]),
        ([5, 5, 5], [5]),
        ([7, 1, 8, 1, 9, 1], [9, 1]),  # the latest of two
        ([1, 2, 3, 7, 3, 8, 1, 2, 3], [7, 3, 8, 1, 2, 3]),  # the longest of two
        ([0, 1, 2, 3, 4, 9, 1, 2, 3, 8, 0, 1, 2, 3], [8, 0, 1, 2, 3]),  # of three at most
    ):
        assert list(lib.speculative.prompt_lookup.lookup(text, 3)) == follows


# Jacobi and lookahead


class Overhearing(Watching):
    """A model that takes masks, and remembers each pass: what the cache held, and the tokens."""

    def __init__(self, model):
        super().__init__(model)
        self.heard: list[tuple[list[int], Tensor]] = []

    def hidden(self, tokens: Tensor, cache, *, positions=None, mask=None) -> Tensor:
        self.cache, self.passes = cache, self.passes + 1
        self.heard.append((list(cache.lengths), tokens))
        return self.model.hidden(tokens, cache, positions=positions, mask=mask)


class Summing(Counting):
    """As `Counting`, of the tokens that a mask lets see; in the cache, those before the pass."""

    def hidden(self, tokens: Tensor, cache, *, positions=None, mask=None) -> Tensor:
        T, held = tokens.shape[1], torch.tensor(cache.lengths)[:, None]
        new = tokens[:, None, :, None].expand(-1, 1, T, 2).double()
        keys, _ = cache.append(0, new, new)
        past = (keys[:, 0, :, 0] * (torch.arange(keys.shape[2]) < held)).sum(1)
        visible = torch.ones(T, T).tril() if mask is None else mask
        cache.advance(T)
        return (past[:, None, None] + visible.double() @ tokens.double()[..., None]) % 3


class Placed(Scripted):
    """As `Scripted`, at the positions that it is given."""

    def hidden(self, tokens: Tensor, cache, *, positions=None, mask=None) -> Tensor:
        if positions is None:
            return super().hidden(tokens, cache)
        cache.advance(tokens.shape[1])
        return self.script.gather(1, positions)[..., None].double()


def pool_of(lib: ModuleType, grams: Sequence[Sequence[int]], *, learns: bool = True):
    """A pool that starts from these n-grams; it may refuse to meet others."""

    class Pool(lib.lookahead.pool.NGramPool):
        def __init__(self, n: int, bound: int):
            super().__init__(n, bound)
            for gram in grams:
                super().add(gram)

        def add(self, gram) -> None:
            if learns:
                super().add(gram)

    return Pool


def parallel_decoders(lib: ModuleType) -> list[Callable[..., Iterator]]:
    """Jacobi and lookahead decoding at some settings, small and large."""
    jacobi, guesses = lib.jacobi.decode_jacobi, lib.jacobi.GUESSES
    blocks = zip((1, 2, 5, 16), guesses.values(), strict=True)
    looks = ((1, 2, 1), (3, 2, 4), (2, 3, 2), (5, 4, 5), (1, 6, 3))
    return [
        *(partial(jacobi, block=block, guess=guess) for block, guess in blocks),
        *(partial(lib.lookahead.decode.decode_lookahead, W=W, N=N, G=G) for W, N, G in looks),
    ]


def parallel_agrees(
    lib: ModuleType, seed: int = 0, decode=None, sampler=None, prompts=None, budget: int = 40
) -> None:
    """The tokens of `decode_cached`, the logits they were picked from, and no pass in vain."""
    prompts, sampler = prompts or _prompts(seed), sampler or lib.Sampler(0.8, top_k=20, top_p=0.95)
    rows = len(prompts)
    for run in [decode] if decode else parallel_decoders(lib):
        model = Overhearing(tiny(lib, seed=seed))
        options = {"max_new_tokens": budget, "sampler": sampler, "stop": {3, 11}}
        plain, steps = (
            list(which(of, prompts, generators=lib.generators(seed, rows), **options))
            for which, of in ((lib.decode_cached, model.model), (run, model))
        )
        assert lib.collect(iter(steps)) == lib.collect(iter(plain))
        assert model.passes == len(steps) <= len(plain)
        lengths, ended = [len(prompt) for prompt in prompts], [False] * rows
        for forwards, (step, (_, tokens)) in enumerate(zip(steps, model.heard, strict=True), 1):
            assert step.forwards == forwards
            assert step.computed == tokens.numel()
            assert [not row.tokens for row in step.rows] == ended  # at least one token a pass
            lengths = [n + len(row.tokens) for n, row in zip(lengths, step.rows, strict=True)]
            ended = [row.ended for row in step.rows]
            assert step.cached == tuple(n - 1 for n in lengths)
            assert step.seconds >= 0
        assert all(ended)
        for b in range(rows):
            picked, wanted = (
                torch.cat([step.rows[b].logits for step in those]) for those in (steps, plain)
            )
            assert close(picked, wanted)


def parallel_caches(lib: ModuleType, seed: int = 0, decode=None) -> None:
    """After every pass the cache holds what a fresh prefill of the text would."""
    for run in [decode] if decode else parallel_decoders(lib):
        model = Overhearing(tiny(lib, seed=seed))
        texts = [list(prompt) for prompt in _prompts(seed)[:3]]
        for step in run(model, texts, max_new_tokens=12, stop={3}):
            assert list(model.cache.lengths) == [
                len(t) + len(r.tokens) - 1 for t, r in zip(texts, step.rows, strict=True)
            ]
            for b, (text, row) in enumerate(zip(texts, step.rows, strict=True)):
                text += row.tokens
                n = len(text) - 1
                if n:
                    fresh, _ = _prefill(lib, model.model, [text[:n]])
                    for part in ("keys", "values"):
                        cached = getattr(model.cache, part)[:, b, :, :n]
                        assert close(cached, getattr(fresh, part)[:, 0, :, :n])


def _chooser(lib: ModuleType, model, sampler, generator, start: int) -> Callable[..., list[int]]:
    """A function: the choices behind the last tokens of a text, by one pass over all of it.

    The token at place n of the text is drawn by number n - start of the generator.
    """
    u = torch.rand(100, generator=generator, dtype=torch.float64)

    def choose(text: Sequence[int], last: int = 1) -> list[int]:
        logits = model(torch.tensor([text]))[0, -last:]
        first = len(text) - start - last + 1
        return sampler.choose(logits, u[first : first + last]).tolist()

    return choose


def jacobi_by_hand(
    choose, prompt, block: int, guess, limit: int, stop
) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Jacobi decoding of one row, without a cache; the naive reference.

    Of each pass: the block before, the block after, the tokens settled.
    """
    text, guesses = list(prompt), list[int]()
    while True:
        size = min(block, limit - len(text))
        guesses = guesses or guess(text, size, 31)
        after = choose([*text, *guesses[:-1]], last=len(guesses))
        right = [old == new for old, new in zip(guesses[:-1], after[:-1], strict=True)]
        new = after[: [*right, False].index(False) + 1]
        ends = [i for i, x in enumerate(new, 1) if x in stop or len(text) + i == limit]
        new = new[: min(ends, default=len(new))]
        yield guesses, after, new
        text, guesses = text + new, after[len(new) :]
        if ends:
            return


def lookahead_by_hand(
    choose, argmax, prompt, W: int, N: int, G: int, first, limit: int, stop
) -> Iterator[tuple]:
    """Lookahead decoding of one row, each path read by itself as a plain text; the reference.

    Of each pass: window, choices behind it, guesses, the best, how much of it is right, new tokens.
    """
    text, window, met = list(prompt), [list(first)], list[tuple[int, ...]]()

    def meet(gram: Sequence[int]) -> None:
        met[:] = [*(other for other in met if other != tuple(gram)), tuple(gram)]

    for i in range(len(text) - N + 1):
        meet(text[i : i + N])
    while True:
        room = limit - len(text)
        behind = [gram[1:room] for gram in met[::-1] if gram[0] == text[-1]][:G]
        guesses = list(dict.fromkeys(gram for gram in behind if gram))
        lines = [[text[-1], *window[0]], *window[1:]]
        chosen = [
            argmax(text + lines[0][1 : j + 1] + [line[j] for line in lines[1:]])[0]
            for j in range(len(lines[-1]))
        ]
        new = list[int]()  # as plain decoding goes on
        while len(new) < min(N, room):
            new += choose(text + new)
        right = [[*map(int.__eq__, guess, new), False].index(False) for guess in guesses]
        accepted = max(right, default=0)
        new = new[: accepted + 1]
        ends = [i for i, x in enumerate(new, 1) if x in stop or i == room]
        new = new[: min(ends, default=len(new))]
        yield lines, chosen, guesses, right.index(accepted) if accepted else None, accepted, new
        if ends:
            return
        whole = [*lines, chosen]
        if len(whole) < N:
            window = [lines[0][2:], *(line[1:] for line in whole[1:])]
        else:
            window = [lines[1][1:], *lines[2:], chosen] if N > 2 else [chosen[1:]]
            for j in range(W):
                meet([line[j] for line in whole])
        for token in new:
            text.append(token)
            if len(text) >= N:
                meet(text[-N:])


def parallel_by_hand(
    lib: ModuleType, seed: int = 0, jacobi=((1, 0), (4, 2), (9, 3)), look=((3, 2, 2), (4, 4, 3))
) -> None:
    """Every pass of ragged rows == that of the naive references, row by row."""
    prompts = [tokens_of(seed + i, n).tolist() for i, n in enumerate((9, 1, 26))]
    prompts[2] = prompts[2][:13] * 2
    budget, stop = 14, (3, 11)
    for sampler in (lib.GREEDY, lib.Sampler(0.9)):
        model = tiny(lib, seed=seed, vocab_size=31)

        def references(start: int, b: int, sampler=sampler, model=model):
            choose = _chooser(lib, model, sampler, lib.generators(seed, 3)[b], start)
            return choose, _chooser(lib, model, lib.GREEDY, lib.generators(seed, 3)[b], start)

        def run(decode, sampler=sampler, model=model, **setting):
            options = {"max_new_tokens": budget, "stop": stop, "sampler": sampler}
            seeds = lib.generators(seed, 3)
            steps = list(decode(model, prompts, generators=seeds, **options, **setting))
            return [[s.rows[b] for s in steps if s.rows[b].tokens] for b in range(3)]

        for block, index in jacobi:
            guess = list(lib.jacobi.GUESSES.values())[index]
            rows = run(lib.jacobi.decode_jacobi, block=block, guess=guess)
            for b, prompt in enumerate(prompts):
                choose, _ = references(len(prompt), b)
                limit = len(prompt) + budget
                wanted = list(jacobi_by_hand(choose, prompt, block, guess, limit, stop))
                assert [[*map(list, (r.before, r.after, r.tokens))] for r in rows[b]] == [
                    list(iterate) for iterate in wanted
                ]
        for W, N, G in look:
            rows = run(lib.lookahead.decode.decode_lookahead, W=W, N=N, G=G)
            for b, prompt in enumerate(prompts):
                first = lib.jacobi.random_tokens(prompt, W + N - 3, 31)
                wanted = lookahead_by_hand(
                    *references(len(prompt), b), prompt, W, N, G, first, len(prompt) + budget, stop
                )
                for row, (lines, chosen, *rest) in zip(rows[b], wanted, strict=True):
                    assert [list(line) for line in row.window] == lines
                    assert list(row.chosen) == chosen
                    assert [[*row.guesses], row.best, row.accepted, [*row.tokens]] == rest


def sees_by_hand(me: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Whether one token of a lookahead pass sees another; each is (guess?, line or guess, column).

    Word by word from the description of the mask, and not from the code.
    """
    (guess, line, j), (its_guess, its_line, its_j) = me, other
    if guess:
        if its_guess:
            return its_line == line and its_j <= j  # causal inside its own guess
        return (its_line, its_j) == (0, 0)  # of the window, the current token only
    if its_guess:
        return False
    if its_line == 0 and its_j <= j:
        return True  # line 0: causal; of the others, its columns 0 to j
    return its_j == j and 1 <= its_line <= line  # its own column of lines 1 to its own


def lookahead_mask(lib: ModuleType) -> None:
    """Every cell of the mask, and every position, of every shape that a window passes through."""
    for W, N in product(range(1, 5), range(2, 6)):
        window = lib.lookahead.window.Window(list(range(W + N - 3)), N)
        for _ in range(N):
            lines = window.read(0)
            sizes = tuple(map(len, lines))
            for guesses, length in ((0, 0), (1, 1), (3, N - 1)):
                layout = lib.lookahead.mask.lookahead_layout(sizes, guesses, length)
                cells = [(0, line, j) for line, size in enumerate(sizes) for j in range(size)]
                cells += [(1, index, j) for index in range(guesses) for j in range(length)]
                fields = (layout.guess.int(), layout.line, layout.column)
                assert [*zip(*(field.tolist() for field in fields), strict=True)] == cells
                for t, me in enumerate(cells):
                    assert layout.offset[t] == (1 + me[2] if me[0] else me[1] + me[2])
                    for s, other in enumerate(cells):
                        assert layout.mask[t, s] == sees_by_hand(me, other)
            window.advance(lines, [0] * sizes[-1])


def paths_of_a_pass(lib: ModuleType, seed: int = 0) -> None:
    """Each token of a lookahead pass == the last of a plain text: its past, and nobody else.

    What it does not see changes no bit of its logits.
    """
    Pass, forward = lib.lookahead.reads.Pass, lib.lookahead.reads.forward_passes
    model, prompts = tiny(lib, seed=seed), _prompts(seed)[:3]
    a, b, c = (tokens_of(seed + i, 20).tolist() for i in range(3))
    passes = [
        Pass(prompts[0][5:-1], [a[:4], a[4:7], a[7:10]], [a[10:12], a[12:14]]),
        Pass((), [b[:2], b[2:4]], [b[4:7], b[7:10], b[10:13]]),
        Pass(prompts[2][2:-1], [c[:5]], [c[5:6]]),
    ]
    texts = [prompts[0][:-1], prompts[1], prompts[2][:-1]]
    held = [len(text) - len(row.unread) for text, row in zip(texts, passes, strict=True)]

    def logits(rows: list[int], changed=None) -> Tensor:
        cache, _ = _prefill(lib, model, [texts[b][: held[b]] for b in rows], capacity=60)
        those = [passes[b] for b in rows] if changed is None else [changed]
        return model.head(forward(model, those, cache))

    for rows in ([0], [1], [0, 1, 2], [2, 2]):
        found = logits(rows)
        for i, b in enumerate(rows):
            row, window = passes[b], passes[b].window
            start = len(row.unread)
            paths = [[*window[0][: j + 1]] for j in range(len(window[0]))]
            for line in range(1, len(window)):
                columns = range(len(window[line]))
                paths += [
                    [*window[0][: j + 1], *(window[up][j] for up in range(1, line + 1))]
                    for j in columns
                ]
            paths += [
                [window[0][0], *guess[: k + 1]] for guess in row.guesses for k in range(row.length)
            ]
            for place, path in enumerate(paths, start):
                plain = model(torch.tensor([[*texts[b], *path]]))[0, -1]
                assert close(found[i, place], plain)
    for b in (0, 1):
        row, before = passes[b], logits([b])
        guess_places = range(row.first_guess, len(row.tokens))
        window_places = range(len(row.unread), row.first_guess)
        columns = [(n, j) for n, line in enumerate(row.window) for j in range(len(line))]
        for n, j in columns[1:]:  # all but the newest token
            window = [list(line) for line in row.window]
            window[n][j] = (window[n][j] + 1) % 31
            after = logits([b], row._replace(window=window))
            assert torch.equal(after[0, guess_places], before[0, guess_places])
            assert not torch.equal(after, before)
        for index in range(len(row.guesses)):
            guesses = [list(guess) for guess in row.guesses]
            guesses[index] = [(token + 1) % 31 for token in guesses[index]]
            after = logits([b], row._replace(guesses=guesses))
            others = [
                place for place in guess_places if (place - row.first_guess) // row.length != index
            ]
            assert torch.equal(after[0, window_places], before[0, window_places])
            assert torch.equal(after[0, others], before[0, others])


def a_perfect_pool(lib: ModuleType, seed: int = 0) -> None:
    """A pool that knows the text: all of the best guess is right, N tokens a pass."""
    for N, budget, temperature in product((2, 3, 5), (1, 2, 12, 13), (0, 1.0)):
        model, prompt = tiny(lib, seed=seed), [1, 2, 3]
        sampler = lib.Sampler(temperature)
        options = {"sampler": sampler, "generators": lib.generators(seed, 1)}
        [text] = lib.collect(lib.decode_cached(model, [prompt], max_new_tokens=20, **options))
        whole = prompt + text
        right = [whole[i : i + N] for i in range(len(whole) - N + 1)]
        nearly = [[*gram[:-1], (gram[-1] + 1) % 31] for gram in right]  # met later, tried earlier
        pool = pool_of(lib, right + nearly)
        options["generators"] = lib.generators(seed, 1)
        with patch.object(lib.lookahead.decode, "NGramPool", pool):
            steps = list(
                lib.lookahead.decode.decode_lookahead(
                    model, [prompt], W=3, N=N, G=30, max_new_tokens=budget, **options
                )
            )
        assert lib.collect(iter(steps)) == [text[:budget]]
        assert len(steps) == ceil(budget / N)
        for step in steps[:-1]:
            assert step.rows[0].accepted == N - 1
            assert len(step.rows[0].tokens) == N


def parallel_law(lib: ModuleType, size: int = 4, decode=None) -> None:
    """The law of what is sampled == the target's, over all cells of all uniforms.

    A row of one batch for each cell; all begin with the same guesses.
    """
    script = [list(u) for u in product((0.125, 0.375, 0.625, 0.875), repeat=size)]
    model, wanted = Summing(lib, counted(toy_target)), text_law(toy_target, size)
    for run in [decode] if decode else parallel_decoders(lib):
        left = [list(u) for u in script]

        def uniforms(batch, b: int, count: int, left=left) -> Tensor:
            numbers, left[b] = left[b][:count], left[b][count:]
            return torch.tensor(numbers, dtype=torch.float64)

        with patch.object(lib.batch.Batch, "uniforms", uniforms):
            texts = lib.collect(
                run(
                    model,
                    [[0, 1, 2, 0, 1, 2, 0]] * len(left),
                    max_new_tokens=size,
                    sampler=lib.Sampler(),
                    generators=lib.generators(0, 1) * len(left),
                )
            )
        counts = Counter(map(tuple, texts))
        assert {text: Fraction(n, len(left)) for text, n in counts.items()} == wanted


def same_texts_in_float64(
    lib: ModuleType, name: str, decoders: Sequence[Callable[..., Any]], count: int
) -> None:
    """On held-out openings a shipped model's texts are those of the plain loop."""
    model, tokenizer = lib.load(name, dtype=torch.float64)
    prompts = openings(tokenizer, count)
    for start in range(0, count, 20):
        rows = prompts[start : start + 20]
        plain = lib.collect(lib.decode_cached(model, rows, max_new_tokens=64))
        for decode in decoders:
            assert lib.collect(decode(model, rows, max_new_tokens=64)) == plain


def same_texts_in_float32(lib: ModuleType, decode: Callable[..., Any]) -> None:
    """The optimized target's texts are equal up to near ties."""
    model, tokenizer = lib.load("stories")
    fast, prompts = optimized(model), openings(tokenizer, 8)
    plain = [
        lib.collect(lib.decode_cached(fast, [prompt], max_new_tokens=32))[0] for prompt in prompts
    ]
    texts = [
        [
            pair
            for step in decode(fast, [prompt], max_new_tokens=32)
            for pair in zip(step.rows[0].tokens, step.rows[0].logits, strict=True)
        ]
        for prompt in prompts
    ]
    assert "8 texts" in equal_tokens(texts, plain)
