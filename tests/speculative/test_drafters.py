"""Drafters: what is copied from a text, what shares weights, and what each refuses."""

import oracles
import pytest
import torch
from oracles import close, tiny, tiny_pair, tokens_of

import minillm
from minillm import GREEDY, KVCache, Sampler
from minillm.fast.model import optimized
from minillm.speculative.drafters import DraftModel, early_exit
from minillm.speculative.prompt_lookup import PromptLookup, lookup


def uniforms(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


# Prompt lookup


def test_what_followed_the_last_time() -> None:
    oracles.lookups(minillm)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_copied_stood_behind_the_texts_own_end(seed: int) -> None:
    text = tokens_of(seed, 30, vocabulary=4).tolist()
    follows = list(lookup(text, 3))
    start = len(text) - len(follows)
    assert 0 < start < len(text)
    assert text[start:] == follows
    repeated = next(n for n in (3, 2, 1) if text[start - n : start] == text[-n:])
    for n in range(repeated + 1, 4):  # nothing longer stands there twice
        assert all(text[i : i + n] != text[-n:] for i in range(len(text) - n))


def test_copied_guesses_are_certain() -> None:
    drafting = PromptLookup(longest=2).start(oracles.tiny_config(minillm), 3, 20)
    texts = [[1, 2, 3, 1, 2], [5, 6], [4, 4]]
    u = [uniforms(*[0.9] * n) for n in (2, 2, 0)]
    proposals = drafting.propose(texts, [2, 2, 0], Sampler(), u)
    assert [proposal.guesses for proposal in proposals] == [(3, 1), (), ()]
    for proposal in proposals:
        assert proposal.q.shape == (len(proposal.guesses), 31)
        assert proposal.q.dtype == torch.float64
        for guess, law in zip(proposal.guesses, proposal.q, strict=True):
            assert law.nonzero().tolist() == [[guess]]
            assert law[guess] == 1


@pytest.mark.parametrize("longest", [0, -1])
def test_lookup_needs_something_to_repeat(longest: int) -> None:
    with pytest.raises(ValueError, match=f"longest must be at least 1, got {longest}"):
        PromptLookup(longest)


# A draft model


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(0.7, top_k=5)], ids=str)
def test_guesses_are_drawn_one_behind_the_other(sampler: Sampler) -> None:
    """By the models own distributions; rows that want fewer guesses draw fewer."""
    model = tiny(minillm)
    drafting = DraftModel(model).start(model.config, 3, 30)
    texts, u = [[1, 2, 3], [4], [5, 6]], [uniforms(0.1, 0.5, 0.9), uniforms(0.3), uniforms()]
    proposals = drafting.propose(texts, [3, 1, 0], sampler, u)
    assert [len(proposal.guesses) for proposal in proposals] == [3, 1, 0]
    for text, numbers, proposal in zip(texts, u, proposals, strict=True):
        assert proposal.q.shape == (len(numbers), 31)
        for i, guess in enumerate(proposal.guesses):
            read = torch.tensor([text + list(proposal.guesses[:i])])
            law = sampler.probabilities(model(read)[0, -1])
            assert close(proposal.q[i], law)
            assert guess == minillm.sampling.pick(law, numbers[i])


# Early exit


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("fast", [False, True], ids=["readable", "optimized"])
def test_early_exit_is_a_model_of_fewer_layers(layers: int, fast: bool) -> None:
    model = tiny(minillm, dtype=torch.float32, num_hidden_layers=4)
    shallow = tiny(minillm, dtype=torch.float32, num_hidden_layers=layers)
    state = model.state_dict()
    shallow.load_state_dict({name: state[name] for name in shallow.state_dict()})
    source = optimized(model) if fast else model
    draft = early_exit(source, layers)
    tokens = tokens_of(0, 2, 9)
    ours, theirs = (KVCache(shallow.config, 2, 12) for _ in range(2))
    torch.testing.assert_close(draft(tokens, ours), shallow(tokens, theirs), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.keys, theirs.keys, atol=1e-5, rtol=1e-5)
    assert draft.config == shallow.config


def test_early_exit_shares_its_weights_and_leaves_the_model_alone() -> None:
    model = tiny(minillm)
    tokens = tokens_of(0, 1, 5)
    before = model(tokens)
    draft = early_exit(model, 1)
    assert len(model.blocks) == model.config.num_hidden_layers == 2
    assert torch.equal(model(tokens), before)
    ids = {id(weight) for weight in model.parameters()}
    assert {id(weight) for weight in draft.parameters()} < ids
    assert not torch.equal(draft(tokens), before)


@pytest.mark.parametrize("layers", [0, 2, 3, -1])
def test_early_exit_takes_some_layers_and_leaves_some(layers: int) -> None:
    with pytest.raises(ValueError, match=f"layers must be from 1 to 1, got {layers}"):
        early_exit(tiny(minillm), layers)


# Vocabularies and contexts are compared when a run starts


def test_a_draft_must_fit_its_target() -> None:
    target, draft = tiny_pair(minillm)
    DraftModel(draft).start(target.config, 1, 10)
    for sizes, named in (
        ({"vocab_size": 40}, "they have 31 and 40 tokens"),
        (
            {"max_position_embeddings": 32},
            "32 tokens is shorter than the target's of 64",
        ),
    ):
        with pytest.raises(ValueError, match=named):
            DraftModel(tiny(minillm, **sizes)).start(target.config, 1, 10)
