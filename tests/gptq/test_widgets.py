"""The film of GPTQ tells what `gptq` computed, column by column; controls run it anew."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from minillm import Transformer
from minillm.gptq.columns import gptq, round_trip_error
from minillm.gptq.hessian import Hessian, damped, hessians
from minillm.quantization.model import matrices
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
from widgets.common.drawing.film import Bars, Heat
from widgets.common.drawing.film import quantize as shades
from widgets.common.drawing.svg import picture, summary
from widgets.common.stable import digits
from widgets.gptq import ColumnExplorer, column_film, relative_error
from widgets.gptq.rounding import Rounding

N, K = 5, 12


def problem(seed: int, mix: float = 1.0) -> tuple[Tensor, Tensor]:
    """Weights, and the Hessian of inputs that go together where `mix` is above 0."""
    g = torch.Generator().manual_seed(seed)
    together = torch.eye(K) + mix * torch.randn(K, K, generator=g) / K**0.5
    hessian = Hessian(K)
    hessian.add(torch.randn(200, K, generator=g) @ together)
    return torch.randn(N, K, generator=g), hessian.matrix


def run(bits: int = 3, act_order: bool = False, mix: float = 1.0, **more: Any) -> Rounding:
    spec = Spec(f"int{bits}", "channel")
    return Rounding.run(*problem(0, mix), range(100, 100 + K), spec, act_order=act_order, **more)


RUNS: dict[str, Callable[[], Rounding]] = {
    "three bits": run,
    "two bits": lambda: run(2),
    "four bits, act-order": lambda: run(4, act_order=True),
    "strong damping": lambda: run(damping=1.0),
}


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS)
def rounding(request: pytest.FixtureRequest) -> Rounding:
    return request.param()


# What is read off a run


def test_the_last_state_is_what_gptq_gives(rounding: Rounding) -> None:
    torch.testing.assert_close(rounding.states[-1], dequantize(rounding.result).double())
    spec = rounding.result.grid.spec
    nearest = dequantize(quantize(rounding.weight, spec)).double()
    assert rounding.nearest[-1].equal(nearest)
    act_order = rounding.order != sorted(rounding.order)
    again = gptq(
        rounding.weight, rounding.hessian, spec, damping=rounding.damping, act_order=act_order
    )
    assert again.codes.equal(rounding.result.codes)


def test_a_rounded_column_stays_and_those_to_come_move(rounding: Rounding) -> None:
    final = rounding.states[-1]
    for i, column in enumerate(rounding.columns):
        before, after = rounding.states[i : i + 2]
        done = rounding.order[: i + 1]
        assert after[:, done].equal(final[:, done])
        assert before[:, column.index].equal(column.weight) or torch.allclose(
            before[:, column.index], column.weight, atol=1e-12
        )
        assert not after[:, column.rest].equal(before[:, column.rest]) or not len(column.rest)


def test_both_sums_are_the_error_of_the_outputs(rounding: Rounding) -> None:
    assert rounding.squares == pytest.approx(rounding.traces, rel=1e-10, abs=1e-12)
    H = damped(rounding.hessian, rounding.damping)
    exact = round_trip_error(rounding.weight, rounding.result, H)
    assert rounding.squares[-1] == pytest.approx(exact)


def test_errors_are_those_of_outputs_on_the_text() -> None:
    g = torch.Generator().manual_seed(1)
    x, weight = torch.randn(50, K, generator=g).double(), torch.randn(N, K, generator=g).double()
    other = weight + 0.1 * torch.randn(N, K, generator=g)
    plain = (x @ (weight - other).T).norm() / (x @ weight.T).norm()
    hessian = Hessian(K)
    hessian.add(x)
    assert relative_error(weight, other, hessian.matrix) == pytest.approx(float(plain))


# The film


def test_numbers_and_captions_say_what_was_computed(rounding: Rounding) -> None:
    film = column_film(rounding)
    assert (film.steps, film.first) == (K + 1, 0)
    outputs, weights, sums = film.numbers
    for step in range(film.steps):
        for number, errors in (
            (outputs, rounding.output_errors),
            (weights, rounding.weight_errors),
        ):
            [nearest], [ours] = errors([rounding.nearest[step]]), errors([rounding.states[step]])
            assert number.at(step) == f"{digits(nearest)} → {digits(ours)} %"
        square = digits(rounding.squares[step])
        assert sums.at(step) == f"{square} = {square}"
        if step:
            column = rounding.columns[step - 1]
            caption = film.captions[step]
            assert caption.startswith(f"Input {100 + column.index} is rounded, by ")
            assert ("No input is left" in caption) == (step == K)
            assert f"The outputs are off by {outputs.at(step).split()[2]} %" in caption
    assert f"Input {100 + rounding.order[0]} comes first" in film.captions[0]


def test_panels_show_it(rounding: Rounding) -> None:
    moved, errors, partners = column_film(rounding).panels
    assert isinstance(moved, Heat)
    assert isinstance(errors, Bars)
    assert isinstance(partners, Heat)
    for step, state in enumerate(rounding.states):
        steps = ((state - rounding.weight) / rounding.result.grid.steps)[:, rounding.order]
        assert steps.abs().max() <= moved.high
        assert moved.at(step) == shades(steps.flatten().tolist(), moved.low, moved.high)
        nearest = rounding.output_errors([rounding.nearest[step]])
        ours = rounding.output_errors([state])
        parts = tuple(error / 100 for error in (*nearest, *ours))
        assert errors.history[step].values[0] == parts
    root = torch.linalg.cholesky(
        torch.linalg.inv(
            damped(rounding.hessian, rounding.damping)[rounding.order][:, rounding.order]
        ),
        upper=True,
    )
    for i in range(K):
        shown = partners.at(i + 1)
        assert set(shown[: i + 1]) == {255}
        together = rounding.correlations[rounding.order[i], rounding.order[i + 1 :]]
        answers = root[i, i + 1 :] / root[i, i]
        assert shown[i + 1 : K] == shades(together.tolist(), partners.low, partners.high)
        off = zip(
            shown[K + i + 1 :],
            shades(answers.tolist(), partners.low, partners.high),
            strict=True,
        )
        assert all(abs(a - b) <= 1 for a, b in off)
    for panel in (moved, partners):
        assert panel.column_labels == tuple(str(100 + i) for i in rounding.order)
        assert [area.column for _, area in panel.marks if area] == list(range(K))


def test_every_step_has_a_picture(rounding: Rounding) -> None:
    film = column_film(rounding)
    for step in range(film.steps):
        assert ET.fromstring(picture(film, step)).get("aria-label") == summary(film, step)


def test_each_weight_says_what_becomes_of_it() -> None:
    rounding = run()
    heat = column_film(rounding).panels[0]
    assert isinstance(heat, Heat)
    steps = rounding.result.grid.steps.double()
    given = float((rounding.weight / steps)[2, 7])
    nearest, ours = (
        int((way[-1] / steps)[2, 7].round()) for way in (rounding.nearest, rounding.states)
    )
    assert heat.sentences[heat.tips[2 * K + 7]] == (
        f"Given: {digits(given)} steps. Nearest: {nearest}, GPTQ: {ours}."
    )


def test_nothing_moves_where_inputs_do_not_go_together() -> None:
    weight, hessian = problem(0)
    rounding = Rounding.run(weight, hessian.diag().diag(), range(K), Spec("int3", "channel"))
    assert rounding.output_errors(rounding.states) == rounding.output_errors(rounding.nearest)
    assert rounding.states[-1].equal(rounding.nearest[-1])


def test_a_falsehood_is_seen_in_the_sums() -> None:
    """An update that was not made, and a value that was not the rounded one."""
    rounding = run()
    column = rounding.columns[3]
    for false in (
        replace(column, reach=torch.zeros_like(column.reach)),
        replace(column, rounded=column.rounded + 0.5),
    ):
        columns = (*rounding.columns[:3], false, *rounding.columns[4:])
        number = column_film(replace(rounding, columns=columns)).numbers[2]
        signs = ["=" in number.at(step) for step in range(K)]
        assert signs == [True] * 4 + [False] * (K - 4)


def test_too_many_weights_are_refused() -> None:
    weight, hessian = problem(0)
    with pytest.raises(ValueError, match="60 x 12 weights are too many"):
        column_film(Rounding.run(weight.repeat(12, 1), hessian, range(K), Spec("int4", "channel")))


# The explorer


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(0, 30, (4, 30), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(tiny: Any) -> Transformer:
    return tiny(dtype=torch.float32, hidden_size=64, intermediate_size=128, head_dim=16)


def test_hessians_are_those_of_the_layers_inputs(model: Transformer, tokens: Tensor) -> None:
    seen: list[Tensor] = []
    layer = model.blocks[1].mlp.down
    handle = layer.register_forward_pre_hook(lambda _, x: seen.append(x[0].flatten(0, 1)))
    model.hidden(tokens)
    handle.remove()
    found = hessians(model, tokens, ["blocks.1.mlp.down"])["blocks.1.mlp.down"]
    [x] = seen
    torch.testing.assert_close(found.float(), 2 * (x.T @ x / len(x)).detach())
    assert not layer._forward_pre_hooks


def test_controls_run_it_anew(model: Transformer, tokens: Tensor) -> None:
    explorer = ColumnExplorer(model, tokens)
    weights = matrices(model)
    for name, value in {
        "matrix": "blocks.0.mlp.gate_up",
        "bits": 2,
        "order": True,
        "inputs": 24,
        "damping": 1.0,
    }.items():
        before = explorer.player.film
        assert explorer[name] != value
        explorer.controls[name].value = value
        assert explorer.player.film != before
    assert explorer.readout.text == explorer.summary()
    assert "blocks.0.mlp.gate_up, 2 bits, act-order: 10 outputs, 24 of its" in explorer.summary()
    rounding = explorer.rounding
    assert rounding.inputs == tuple(range(24, 48))
    assert rounding.weight.equal(weights["blocks.0.mlp.gate_up"][:10, 24:48].double())
    diagonal = rounding.hessian.diagonal()[rounding.order]
    assert (diagonal.diff() <= 0).all()
    moves = [float(column.update.norm()) for column in rounding.columns]
    assert moves[explorer.player.step - 1] == max(moves[:12])
    assert set(explorer.outputs()[0]) == {"text/html", "text/plain"}


def test_the_readout_tells_of_all_inputs(model: Transformer, tokens: Tensor) -> None:
    explorer = ColumnExplorer(model, tokens)
    name = explorer["matrix"]
    weight = matrices(model)[name].detach()[:10].double()
    hessian = hessians(model, tokens, [name])[name]
    nearest, ours = explorer.errors()
    spec = Spec("int3", "channel")
    for said, way in ((nearest, quantize(weight, spec)), (ours, gptq(weight, hessian, spec))):
        error = relative_error(weight, dequantize(way).double(), hessian)
        assert said == pytest.approx(100 * error)
    assert ours < nearest
    assert f"{digits(nearest)} → {digits(ours)} %" in explorer.readout.text


def test_inputs_that_are_always_zero_are_left_out(model: Transformer, tokens: Tensor) -> None:
    explorer = ColumnExplorer(model, tokens)
    name = explorer["matrix"]
    explorer._hessians[name][3] = explorer._hessians[name][:, 3] = 0
    explorer.controls["bits"].value = 4
    assert explorer.rounding.inputs[:5] == (0, 1, 2, 4, 5)
    assert all("nan" not in caption for caption in explorer.player.film.captions)
