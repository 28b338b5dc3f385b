"""Decoding: the cache changes no token, rows of a batch know nothing of each other, Steps add up.

The scripted model reaches every end: it answers from a list, whatever the text before.
"""

import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor

import minillm
from minillm import GREEDY, KVCache, ModelConfig, Sampler, Transformer
from minillm.batch import Row
from minillm.data.heldout import openings
from minillm.decoding import Step
from minillm.jacobi import decode_jacobi
from minillm.lookahead import decode_lookahead
from minillm.speculative import PromptLookup, decode_speculative

Tiny = Callable[..., Transformer]
Decode = Callable[..., Iterator[Step]]
DECODERS = [minillm.decode_recomputed, minillm.decode_cached]
SEEDS = range(6)
STOP = 30


# Tiny random models


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_cached_equals_recomputed(seed: int, temperature: float) -> None:
    oracles.decoders_agree(minillm, seed, temperature)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_row_of_a_batch_equals_the_row_alone(seed: int, temperature: float) -> None:
    oracles.rows_alone(minillm, seed, temperature)


class OfTheProtocol:
    """A cache with the members of `minillm.attention.Cache` and no other."""

    def __init__(self, cache: KVCache):
        self._cache = cache
        self.append, self.advance = cache.append, cache.advance
        self.truncate, self.keep = cache.truncate, cache.keep

    @property
    def lengths(self) -> tuple[int, ...]:
        return self._cache.lengths


@pytest.mark.parametrize(
    "decode",
    [
        minillm.decode_cached,
        partial(decode_speculative, drafter=PromptLookup(longest=1)),
        partial(decode_jacobi, block=4),
        partial(decode_lookahead, W=3, N=3, G=3),
    ],
    ids=["cached", "speculative", "jacobi", "lookahead"],
)
def test_a_decoder_writes_into_the_cache_it_is_given(decode: Decode) -> None:
    model = oracles.tiny(minillm)
    prompts, made = [[1, 2, 1, 2, 1], [3, 4]], list[KVCache]()

    def new(rows: int, capacity: int) -> OfTheProtocol:
        made.append(KVCache(model.config, rows, capacity, dtype=torch.float64))
        return OfTheProtocol(made[-1])

    run = partial(decode, model, prompts, max_new_tokens=12)
    steps = list(run(cache=new))
    assert minillm.collect(iter(steps)) == minillm.collect(run())
    [cache] = made
    assert cache.lengths == steps[-1].cached == (16, 13)
    assert cache.keys[:, :, :, :13].abs().sum(-1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_steps_add_up(seed: int) -> None:
    oracles.step_invariants(minillm, seed)


@pytest.mark.parametrize("decode", DECODERS)
def test_sampled_tokens_are_the_inverse_cdf_of_the_generators_numbers(
    tiny: Tiny, decode: Decode
) -> None:
    model, sampler = tiny(), Sampler(0.8, top_k=9)
    steps = list(
        decode(
            model,
            [[1, 2, 3]],
            max_new_tokens=12,
            sampler=sampler,
            generators=minillm.generators(7, 1),
        )
    )
    uniforms = torch.rand(12, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    text = [1, 2, 3]
    for step, u in zip(steps, uniforms, strict=True):
        logits = model(torch.tensor([text]))[:, -1]
        assert oracles.close(step.rows[0].logits, logits)
        assert step.rows[0].tokens == (minillm.sampling.pick(sampler.probabilities(logits[0]), u),)
        text += step.rows[0].tokens


# A scripted model


class Scripted:
    """After position i of row b stands script[b][i]; keeps what it was asked to forward."""

    def __init__(self, config: ModelConfig, script: Sequence[Sequence[int]]):
        self.config, self.device, self.dtype = config, torch.device("cpu"), torch.float64
        context = config.max_position_embeddings
        self.script = torch.tensor([[*row, *[0] * (context - len(row))] for row in script])
        self.forwarded: list[list[list[int]]] = []

    def hidden(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        B, T = tokens.shape
        start = torch.tensor((0,) * B if cache is None else cache.lengths)
        self.forwarded.append(tokens.tolist())
        if cache is not None:
            cache.advance(T)
        positions = (start[:, None] + torch.arange(T)).clamp(max=self.script.shape[1] - 1)
        return self.script.gather(1, positions)[..., None].double()

    def head(self, hidden: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(hidden[..., 0].long(), self.config.vocab_size).double()


def scripted(
    config: ModelConfig, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> Scripted:
    """A model that continues prompts[b] with answers[b]."""
    rows = zip(prompts, answers, strict=True)
    return Scripted(config, [[*[0] * (len(p) - 1), *answer] for p, answer in rows])


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("end", range(8))
@pytest.mark.parametrize("stop", [{STOP}, {STOP, 29}, ()], ids=["one", "two", "none"])
def test_a_stop_token_ends_a_row_wherever_it_stands(
    tiny_config: Callable[..., ModelConfig], decode: Decode, end: int, stop: Collection[int]
) -> None:
    prompts = [[STOP, 5, 6], [STOP]]  # a stop token in the prompt ends nothing
    answers = [[*range(1, 9)], [*range(11, 19)]]
    answers[0][end] = STOP
    expected = [answers[0][: end + 1] if stop else answers[0], answers[1]]
    model = scripted(tiny_config(), prompts, answers)
    steps = list(decode(model, prompts, max_new_tokens=8, stop=stop))
    assert minillm.collect(iter(steps)) == expected
    assert [step.rows[0].ended for step in steps] == [
        i + 1 >= len(expected[0]) for i in range(len(steps))
    ]
    assert len(steps) == len(model.forwarded) == 8


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("ends", [(0, 0), (0, 5), (5, 0), (3, 4), (7, 7)])
def test_decoding_goes_on_until_the_last_row_ends(
    tiny_config: Callable[..., ModelConfig], decode: Decode, ends: tuple[int, int]
) -> None:
    prompts, answers = [[1, 2], [3, 4, 5, 6]], [[7] * 8, [8] * 8]
    for answer, end in zip(answers, ends, strict=True):
        answer[end] = STOP
    model = scripted(tiny_config(), prompts, answers)
    steps = list(decode(model, prompts, max_new_tokens=8, stop=[STOP]))
    texts = minillm.collect(iter(steps))
    assert [len(text) for text in texts] == [end + 1 for end in ends]
    assert len(steps) == max(ends) + 1
    assert all(row.tokens == () and row.ended for row in steps[-1].rows[:1]) == (ends[0] < ends[1])


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("budget", [1, 2, 5, 61, 62, 63, 1000])
def test_budget_and_context_end_a_row(
    tiny_config: Callable[..., ModelConfig], decode: Decode, budget: int
) -> None:
    """The context of 64 holds prompt and new tokens; the last token is never forwarded."""
    prompts = [[1, 2], [3] * 63]
    model = scripted(tiny_config(), prompts, [[5] * 62, [6]])
    texts = minillm.collect(decode(model, prompts, max_new_tokens=budget))
    assert texts == [[5] * min(budget, 62), [6]]


def test_what_is_forwarded(tiny_config: Callable[..., ModelConfig]) -> None:
    """Cached: the padded prompts, then each row's newest token. Recomputed: all, every time."""
    prompts, answers = [[1, 2, 3], [4]], [[11, 12, 13], [21, STOP, 0]]
    model = scripted(tiny_config(), prompts, answers)
    list(minillm.decode_cached(model, prompts, max_new_tokens=3, stop=[STOP]))
    assert model.forwarded == [[[1, 2, 3], [4, 0, 0]], [[11], [21]], [[12], [STOP]]]
    model.forwarded.clear()
    list(minillm.decode_recomputed(model, prompts, max_new_tokens=3, stop=[STOP]))
    assert model.forwarded == [
        [[1, 2, 3], [4, 0, 0]],
        [[1, 2, 3, 11], [4, 21, 0, 0]],
        [[1, 2, 3, 11, 12], [4, 21, STOP, 0, 0]],
    ]


# Arguments


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": [[1], []]}, "at least one token"),
        ({"prompts": [[1] * 64]}, "a prompt of 64 tokens leaves no room in the context of 64"),
        ({"prompts": [[1] * 65]}, "a prompt of 65 tokens"),
        ({"prompts": [[1, 31]]}, "from 0 to 30"),
        ({"prompts": [[-1]]}, "from 0 to 30"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"max_new_tokens": -5}, "max_new_tokens"),
        ({"sampler": Sampler()}, "1 rows need a generator each, got 0"),
        ({"sampler": Sampler(), "generators": minillm.generators(0, 2)}, "got 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_bad_arguments_are_refused_at_the_call(
    tiny: Tiny, decode: Decode, changed: dict[str, Any], named: str
) -> None:
    arguments: dict[str, Any] = {"prompts": [[1]], "max_new_tokens": 3} | changed
    with pytest.raises(ValueError, match=named):
        decode(tiny(), **arguments)  # and not at the first next()


@pytest.mark.parametrize("decode", DECODERS)
def test_a_model_that_answers_nan_is_refused(tiny: Tiny, decode: Decode) -> None:
    model = tiny()
    model.norm.weight[0] = torch.nan
    with pytest.raises(ValueError, match="logits must be finite"):
        next(decode(model, [[1, 2]], max_new_tokens=3))


def test_row_checks_itself() -> None:
    Row((), torch.zeros(0, 5), ended=True)
    with pytest.raises(ValueError, match="2 tokens, but 1 rows of logits"):
        Row((1, 2), torch.zeros(1, 5), ended=False)
    with pytest.raises(ValueError, match="at least one token"):
        Row((), torch.zeros(0, 5), ended=False)


def test_collect_of_no_steps() -> None:
    assert minillm.collect(iter(())) == []


def test_generators_are_seeded_one_by_one() -> None:
    first = [torch.rand(3, generator=g).tolist() for g in minillm.generators(5, 3)]
    for i, expected in zip(count(5), first, strict=False):
        assert torch.rand(3, generator=minillm.generators(i, 1)[0]).tolist() == expected
    assert len({tuple(numbers) for numbers in first}) == 3


# The shipped models


@pytest.mark.slow
class TestShipped:
    """On held-out openings; exact in float64, in float32 up to near ties."""

    @pytest.mark.parametrize("sampler", [GREEDY, Sampler()], ids=["greedy", "sampled"])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("name", minillm.shipped())
    def test_cached_equals_recomputed(
        self, name: str, dtype: torch.dtype, sampler: Sampler
    ) -> None:
        model, tokenizer = minillm.load(name, dtype=dtype)
        count = 10
        prompts = openings(tokenizer, count)
        for start in range(0, count, 5):  # neighbours are of nearly one length
            rows = prompts[start : start + 5]
            naive, cached = (
                list(
                    decode(
                        model,
                        rows,
                        max_new_tokens=64,
                        sampler=sampler,
                        generators=minillm.generators(start, len(rows)),
                    )
                )
                for decode in DECODERS
            )
            texts = [minillm.collect(iter(steps)) for steps in (naive, cached)]
            if dtype == torch.float64:
                assert texts[0] == texts[1]
            for b in range(len(rows)):
                margin = _margin(naive, cached, b, sampler, start)
                assert margin < 1e-4, f"row {start + b} differs at a margin of {margin}"

    @pytest.mark.parametrize("sampler", [GREEDY, Sampler()], ids=["greedy", "sampled"])
    def test_a_row_of_a_batch_equals_the_row_alone(
        self, draft: Transformer, sampler: Sampler
    ) -> None:
        tokenizer = minillm.load("stories-draft")[1]
        prompts = openings(tokenizer)[::17]
        dot = tokenizer.encode(".").ids

        def run(rows: list[list[int]], seed: int) -> list[list[int]]:
            generators = minillm.generators(seed, len(rows))
            return minillm.collect(
                minillm.decode_cached(
                    draft,
                    rows,
                    max_new_tokens=40,
                    sampler=sampler,
                    generators=generators,
                    stop=dot,
                )
            )

        together = run(prompts, 3)
        assert together == [run([prompt], 3 + b)[0] for b, prompt in enumerate(prompts)]
        assert len({len(text) for text in together}) > 3


def _margin(
    naive: Sequence[Step], cached: Sequence[Step], b: int, sampler: Sampler, seed: int
) -> float:
    """How near a tie row b was where the two runs first differ; 0 where they do not.

    Greedy: between the two largest logits. Sampled: from u to the edge of its cell.
    """
    generator = minillm.generators(seed, b + 1)[b]
    for one, other in zip(naive, cached, strict=False):
        u = torch.rand((), generator=generator, dtype=torch.float64)
        if one.rows[b].tokens != other.rows[b].tokens:
            logits = one.rows[b].logits[0]
            if sampler == GREEDY:
                first, second = logits.topk(2).values.tolist()
                return first - second
            return float((sampler.probabilities(logits).cumsum(-1) - u).abs().min())
    return 0.0


UNTYPED = """
import torch
from minillm import collect, decode_cached, load
model, _ = load("stories-draft")
plain = collect(decode_cached(model, [[0, 300]], max_new_tokens=9))
stop = torch.tensor(plain[0][3:4])
found = collect(decode_cached(model, torch.tensor([[0, 300]]), max_new_tokens=9, stop=stop))
assert found[0] == plain[0][: plain[0].index(int(stop)) + 1]
for wrong in (
    *({"prompts": prompts} for prompts in ([[7.0]], [["a"]], [[None]], [7], None)),
    *({"stop": stop} for stop in (None, 7, [7.5], ["7"], "7")),
    {"max_new_tokens": 1.5}, {"max_new_tokens": None}, {"generators": None}, {"sampler": None},
):
    try:
        decode_cached(model, **{"prompts": [[1]], "max_new_tokens": 1, **wrong})
    except ValueError as error:
        assert "whole number" in str(error) or "must be " in str(error)
    else:
        raise AssertionError(wrong)
"""


def test_tensors_are_taken_and_other_things_refused_at_the_call() -> None:
    """In a process of its own: here the annotations are checked before the library can."""
    done = subprocess.run([sys.executable, "-c", UNTYPED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
