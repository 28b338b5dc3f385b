"""The explorer of one forward pass tells what the model computed, for any text; its checks too."""

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer

import minillm
from minillm import Transformer
from minillm.attention import attention_weights
from minillm.roofline import work
from minillm.tokens import encode
from widgets.common.drawing.film import BLANK, Film, Heat, Lanes
from widgets.common.stable import digits
from widgets.transformer import ForwardExplorer, forward_film, watch
from widgets.transformer.watching import LONGEST, follow, logit_parts

TEXT = "Tom had a red ball. He lost the red"
ODD = ["", "\n\t  ", "🎈 schadenfreude", "<b>bold</b> & 'quoted'", "שלום עולם", "a " * 600]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return minillm.load("stories-draft")[1]


@pytest.fixture(scope="module")
def film(draft: Transformer, tokenizer: Tokenizer) -> Film:
    last = draft.config.num_hidden_layers - 1
    return forward_film(follow(draft, tokenizer, TEXT), draft.config, layer=last, head=1)


def heats(film: Film) -> list[Heat]:
    return [panel for panel in film.panels if isinstance(panel, Heat)]


def station(film: Film, name: str) -> int:
    """The step of the first station of this name."""
    cells = (cell for cell in film.cells() if cell.text == name)
    return next(cells).history[0].step


# What hooks see


def test_watch_sees_what_the_model_computes(tiny: Callable[..., Transformer]) -> None:
    model, tokens = tiny(), torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    seen = watch(model, tokens)
    x = model.embed(tokens)
    for here, block in zip(seen, model.blocks, strict=True):
        weights = attention_weights(here.q, here.k, None)
        v = here.v.repeat_interleave(here.q.shape[1] // here.v.shape[1], dim=1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(here.middle, x + block.attention.out(mixed))
        torch.testing.assert_close(here.out, here.middle + block.mlp(block.mlp_norm(here.middle)))
        assert here.gate.shape == (2, 4, model.config.intermediate_size)
        x = here.out
    torch.testing.assert_close(model.norm(x), model.hidden(tokens))


def test_watch_leaves_no_hook_behind(tiny: Callable[..., Transformer]) -> None:
    model = tiny()
    watch(model, torch.tensor([[1, 2]]))
    with pytest.raises(IndexError):
        watch(model, torch.tensor([[10**6]]))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_watch_takes_a_mask(tiny: Callable[..., Transformer]) -> None:
    model, sees_all = tiny(), torch.ones(3, 3, dtype=torch.bool)
    one, two = (watch(model, torch.tensor([t]), mask=sees_all) for t in ([1, 2, 3], [1, 2, 4]))
    assert torch.equal(one[0].k[:, :, :2], two[0].k[:, :, :2])
    assert not torch.equal(one[1].k[:, :, :2], two[1].k[:, :, :2])


# The film


def test_parameters_and_flops_of_the_stations_are_those_of_the_model(
    film: Film, draft: Transformer, tokenizer: Tokenizer
) -> None:
    parameters, flops, *_ = film.numbers
    total = [
        sum(int(n.at(i).replace(",", "")) for i in range(film.steps)) for n in film.numbers[:2]
    ]
    assert (parameters.label, flops.label[:5]) == ("parameters here", "FLOPs")
    assert total[0] == sum(p.numel() for p in draft.parameters())
    tokens = len(encode(tokenizer, TEXT))
    assert total[1] == work(draft.config, new=tokens, logits="last").flops


def test_the_last_reading_is_the_models_next_token(
    film: Film, draft: Transformer, tokenizer: Tokenizer
) -> None:
    p = draft(torch.tensor([encode(tokenizer, TEXT)]))[0, -1].softmax(-1)
    best = tokenizer.decode([int(p.argmax())])
    assert film.numbers[2].at(film.steps - 1) == f"“{best}” {float(p.max()):.0%}"
    assert film.numbers[2].at(0) == "–"
    assert f"“{best}” {float(p.max()):.0%}" in film.captions[-1]


def test_what_each_half_of_each_layer_adds_sums_to_the_logit(
    film: Film, draft: Transformer, tokenizer: Tokenizer
) -> None:
    logits = draft(torch.tensor([encode(tokenizer, TEXT)]))[0, -1]
    run = follow(draft, tokenizer, TEXT)
    assert len(run.parts) == len(run.lengths) == 1 + 2 * draft.config.num_hidden_layers
    assert sum(run.parts) == pytest.approx(float(logits.max()), rel=1e-4)
    assert film.numbers[3].at(film.steps - 1) == f"+{digits(logits.max())}"
    assert run.lengths[-1] == pytest.approx(float(run.layers[-1].out[0, -1].norm()))


def test_parts_of_a_logit_are_those_of_the_stretches(tiny: Callable[..., Transformer]) -> None:
    model, noise = tiny(), torch.Generator().manual_seed(0)
    stream = torch.randn(3, model.config.hidden_size, generator=noise, dtype=model.dtype)
    parts = logit_parts(model, stream, token=5)
    without = stream[-1] - (stream[1] - stream[0])  # what the middle stretch adds, taken away
    scale = model.norm(stream[-1]) / stream[-1]
    torch.testing.assert_close(parts.sum(), model.head(model.norm(stream[-1]))[5])
    torch.testing.assert_close(parts[[0, 2]].sum(), model.head(scale * without)[5])


def test_parts_appear_with_the_station_that_adds_them(film: Film) -> None:
    _scores, _weights, added = heats(film)
    layers = added.columns
    last = layers - 1  # the layer that is open
    filled = [[byte != BLANK for byte in added.at(step)] for step in range(film.steps)]
    assert not any(filled[0])
    before, after = station(film, "+ attention") - 1, station(film, "+ attention")
    assert sum(filled[before]) == 1 + 2 * last
    assert filled[after][layers + last]
    assert not filled[after][2 * layers + last]
    assert sum(filled[-1]) == 1 + 2 * layers


def test_the_mask_takes_the_future_away(film: Film) -> None:
    scores, weights, _ = heats(film)
    T = scores.rows
    future = torch.ones(T, T, dtype=torch.bool).triu(1).flatten().tolist()
    before, after = (scores.at(station(film, name)) for name in ("scores", "softmax"))
    assert BLANK not in before
    assert [byte == BLANK for byte in after] == future
    shown = weights.at(film.steps - 1)
    assert [byte == BLANK for byte in shown] == future
    assert set(weights.at(station(film, "scores"))) == {BLANK}
    for row in range(T):  # rows sum to 1, within the 254 levels of a byte
        assert sum(shown[row * T : row * T + row + 1]) == pytest.approx(254, abs=T / 2)


def test_stations_appear_one_after_the_other(film: Film) -> None:
    (lanes,) = (panel for panel in film.panels if isinstance(panel, Lanes))
    _text, stream, inside = lanes.lanes
    born = [[cell.history[0].step for cell in lane.cells] for lane in (stream, inside)]
    assert all(
        steps == sorted(steps) and lane.start == steps[0]
        for steps, lane in zip(born, (stream, inside), strict=True)
    )
    assert {*born[0], *born[1]} == set(range(1, film.steps))
    assert not {*born[0]} & {*born[1]}


def test_what_is_added_to_the_stream_comes_from_the_last_station_inside(film: Film) -> None:
    (lanes,) = (panel for panel in film.panels if isinstance(panel, Lanes))
    _text, stream, inside = lanes.lanes
    made = {cell.text: cell.link for cell in inside.cells}
    origins = {cell.text: cell.history[0].origin for cell in stream.cells}
    assert origins["+ attention"] == made["mix"]
    assert origins["+ MLP"] == inside.cells[-1].link
    assert not any(origin for text, origin in origins.items() if not text.startswith("+"))


def test_every_layer_and_head_has_the_same_stations(
    draft: Transformer, tokenizer: Tokenizer
) -> None:
    config, run = draft.config, follow(draft, tokenizer, TEXT)
    films = [
        forward_film(run, config, layer, head)
        for layer in range(config.num_hidden_layers)
        for head in range(config.num_attention_heads)
    ]
    assert len({film.steps for film in films}) == 1
    assert len({station(film, "softmax") for film in films}) == 1
    for layer, head in ((config.num_hidden_layers, 0), (0, config.num_attention_heads), (-1, 0)):
        with pytest.raises(ValueError, match=r"(layer|head) must be from 0 to"):
            forward_film(run, config, layer, head)


# The explorer


@pytest.mark.parametrize("text", ODD, ids=repr)
def test_any_text_is_shown(draft: Transformer, tokenizer: Tokenizer, text: str) -> None:
    explorer = ForwardExplorer(draft, tokenizer, text)
    film = explorer.player.film
    assert heats(film)[0].rows == min(len(encode(tokenizer, text)), LONGEST)
    assert ("first 24 tokens" in film.hint) == (len(encode(tokenizer, text)) > LONGEST)
    assert "<b>" not in explorer.picture()


def test_controls_change_the_film_and_keep_the_station(
    tiny: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    explorer = ForwardExplorer(tiny(vocab_size=2048), tokenizer, TEXT)
    explorer.player.step = 7
    seen = {explorer.summary() + explorer.player.film.captions[7]}
    for control, value in (("layer", 1), ("head", 1), ("text", "A dog ran")):
        explorer.controls[control].value = value
        assert explorer.player.step == 7
        seen.add(explorer.summary() + explorer.player.film.captions[7])
    assert len(seen) == 4
    assert explorer.summary().startswith("Layer 1, head 1. ")
    assert heats(explorer.player.film)[0].rows == len(encode(tokenizer, "A dog ran"))


def test_what_is_stored_is_stable(draft: Transformer, tokenizer: Tokenizer) -> None:
    one, two = (ForwardExplorer(draft, tokenizer, TEXT).outputs()[0] for _ in range(2))
    assert one["text/html"] == two["text/html"]
    assert one["text/plain"] == two["text/plain"]
    assert "\n" not in one["text/plain"]
