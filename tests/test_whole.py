"""Every whole number that a public function takes: what is none, or too small, is a ValueError."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from oracles import tiny

import minillm
from minillm import KVCache
from minillm.data.heldout import openings
from minillm.decoding import decode_cached, decode_recomputed, generators
from minillm.fast.draft import Int8Draft
from minillm.fast.int8_model import INT8, optimized_int8
from minillm.fast.outliers import OutlierLinear
from minillm.jacobi import decode_jacobi
from minillm.kv_cache import kv_bytes
from minillm.lookahead.decode import decode_lookahead
from minillm.lookahead.pool import NGramPool
from minillm.measure.divergence import divergences
from minillm.measure.evaluation import evaluate
from minillm.measure.machine import measure_tokens
from minillm.measure.repetition import distinct, repetition
from minillm.quantization.model import quantize_model
from minillm.quantization.smoothing import plant_outliers
from minillm.roofline import work
from minillm.sparsity.counting import Observed, mass_of_top, observe
from minillm.sparsity.neurons import neighbours, unused_by_law
from minillm.sparsity.pruning import sinks_and_window, top_k_attention
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel, early_exit
from minillm.speculative.exactness import joint_law, text_law
from minillm.speculative.prompt_lookup import PromptLookup, lookup
from minillm.speculative.verification import verify
from minillm.speedup.acceptance import acceptance
from minillm.speedup.batch import measure_batches
from minillm.speedup.gain import measure_gain
from minillm.whole import whole, wholes
from widgets.jacobi import measure_blocks
from widgets.lookahead import measure_settings
from widgets.sparsity import attention_film, measure_costs
from widgets.transformer.exercises import looks_back

MODEL = tiny(minillm)
CONFIG, DRAFTER = MODEL.config, DraftModel(MODEL)


def cache(tokens: int = 0) -> KVCache:
    held = KVCache(CONFIG, 1, 9)
    held.advance(tokens)
    return held


def decoder(decode: Callable[..., Any], name: str, **more: Any) -> Callable[[Any], Any]:
    arguments: dict[str, Any] = {"prompts": [[1]], "max_new_tokens": 3} | more
    return lambda wrong: decode(MODEL, **arguments | {name: wrong})


def law(text: tuple[int, ...]) -> tuple[Fraction, ...]:
    return (Fraction(1),)


def observed() -> Observed:
    return observe(MODEL, torch.tensor([[1, 2]]))


TWO = [[1], [2]]
MLP = tiny(minillm, dtype=torch.float32, hidden_act="relu").blocks[0].mlp
CALLS: dict[str, Callable[[Any], Any]] = {
    "truncate": lambda n: cache(3).truncate([n]),
    "keep": lambda n: cache(3).keep([[n]]),
    "advance": lambda n: cache().advance(n),
    "starts": lambda n: cache().starts(n),
    "batch of a cache": lambda n: KVCache(CONFIG, n, 9),
    "capacity of a cache": lambda n: KVCache(CONFIG, 1, n),
    "kv_bytes, tokens": lambda n: kv_bytes(CONFIG, n, torch.float32),
    "kv_bytes, batch": lambda n: kv_bytes(CONFIG, 1, torch.float32, n),
    **{
        decode.__name__: decoder(decode, "max_new_tokens")
        for decode in (decode_cached, decode_recomputed, decode_jacobi, decode_lookahead)
    },
    "a prompt's token": lambda n: decoder(decode_cached, "prompts")([[n]]),
    "a stop token": lambda n: decoder(decode_cached, "stop")([n]),
    "speculative, max_new_tokens": decoder(decode_speculative, "max_new_tokens", drafter=DRAFTER),
    "speculative, gamma": decoder(decode_speculative, "gamma", drafter=DRAFTER),
    "jacobi, block": decoder(decode_jacobi, "block"),
    **{f"lookahead, {name}": decoder(decode_lookahead, name) for name in "WNG"},
    "a guess's token": lambda n: next(decoder(decode_jacobi, "guess")(lambda *_: [n] * 3)),
    "generators, rows": lambda n: generators(0, n),
    "early_exit": lambda n: early_exit(MODEL, n),
    "PromptLookup": lambda n: PromptLookup(n),
    "lookup": lambda n: lookup([1, 2, 1], n),
    "NGramPool, n": lambda n: NGramPool(n, 2),
    "NGramPool, bound": lambda n: NGramPool(2, n),
    "a step's token": lambda n: int8_draft().step(n, KVCache(int8_draft().twin.config, 1, 8)),
    "distinct": lambda n: distinct([1, 2, 3], n),
    "repetition": lambda n: repetition(MODEL, TWO, 1.0, max_new_tokens=n),
    "acceptance": lambda n: acceptance(MODEL, MODEL, TWO, max_new_tokens=n),
    "openings": lambda n: openings(None, n),
    "evaluate": lambda n: evaluate(MODEL, torch.tensor([1, 2]), n),
    "divergences": lambda n: divergences(MODEL, {}, [[1, 2]], n),
    "text_law": lambda n: text_law(law, n),
    "joint_law": lambda n: joint_law(verify, law, law, n),
    "mass_of_top": lambda n: mass_of_top(torch.ones(2, 3), n),
    "top_k_attention": lambda n: top_k_attention(MODEL, n),
    "sinks": lambda n: sinks_and_window(9, n, 1),
    "window": lambda n: sinks_and_window(9, 0, n),
    "unused_by_law": lambda n: unused_by_law(0.5, n),
    "work, new": lambda n: work(CONFIG, new=n, cached=0),
    "work, cached": lambda n: work(CONFIG, new=1, cached=n),
    "work, batch": lambda n: work(CONFIG, new=1, cached=0, batch=n),
    "plant_outliers": lambda n: plant_outliers(MODEL, [n]),
    "OutlierLinear": lambda n: OutlierLinear(MODEL.blocks[0].mlp.down, [n]),
    "measure_tokens, counts": lambda n: measure_tokens(MODEL, [n], cached=0),
    "measure_tokens, cached": lambda n: measure_tokens(MODEL, [1], cached=n),
    "measure_tokens, repeats": lambda n: measure_tokens(MODEL, [1], cached=0, repeats=n),
    "measure_gain": lambda n: measure_gain(MODEL, DRAFTER, TWO, [n]),
    "measure_batches": lambda n: measure_batches(MODEL, DRAFTER, TWO, [n]),
    "measure_batches, gamma": lambda n: measure_batches(MODEL, DRAFTER, TWO, [1], gamma=n),
    "attention_film, layer": lambda n: attention_film(observed(), ["a", "b"], n, 0, 0.1),
    "attention_film, head": lambda n: attention_film(observed(), ["a", "b"], 0, n, 0.1),
    "looks_back, layer": lambda n: looks_back(n, 0),
    "looks_back, head": lambda n: looks_back(0, n),
    "measure_costs, batches": lambda n: measure_costs([MLP], [0.5], [n]),
    "measure_costs, rounds": lambda n: measure_costs([MLP], [0.5], [1], n),
    "neighbours": lambda n: neighbours(torch.ones(1, 2, 3, 4).bool(), n),
    "measure_blocks": lambda n: measure_blocks(MODEL, TWO, [n]),
    "measure_settings, widths": lambda n: measure_settings(MODEL, TWO, [n], [2]),
    "measure_settings, lengths": lambda n: measure_settings(MODEL, TWO, [1], [n]),
}


@lru_cache
def int8_draft() -> Int8Draft:
    return Int8Draft(tiny(minillm, dtype=torch.float32, hidden_act="relu", head_dim=32))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the check of annotations, as readers call the library."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_no_whole_number_is_refused(call: Callable[[Any], Any]) -> None:
    for wrong in (-1, 1.5, True, "1", None):
        with pytest.raises(ValueError, match="must be"):
            call(wrong)


@pytest.mark.parametrize("three", [3, np.int64(3), torch.tensor(3)], ids=repr)
def test_what_is_one_is_taken(three: Any) -> None:
    assert type(whole("n", three)) is int
    assert wholes("n", [three, three]) == [3, 3]


@pytest.mark.parametrize("value", [2, 6])
def test_the_span_is_said(value: int) -> None:
    with pytest.raises(ValueError, match=f"^n must be from 3 to 5, got {value}$"):
        whole("n", value, least=3, most=5)


@pytest.mark.parametrize("position", [-1, 64])
def test_positions_are_those_of_the_context(position: int) -> None:
    with pytest.raises(ValueError, match=f"position.* {position}"):
        MODEL.hidden(torch.tensor([[1]]), positions=torch.tensor([position]))


def test_an_int8_twin_knows_no_token_below_0_as_its_naive_twin() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16}
    quantized = quantize_model(tiny(minillm, dtype=torch.float32, **sizes), INT8)
    for model in (quantized, optimized_int8(quantized, round_activations=False)):
        with pytest.raises(IndexError):
            model.embed(torch.tensor([[-1]]))
