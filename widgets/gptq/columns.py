"""The explorer of GPTQ: one column at a time, its error pushed to those still to come.

It reads the columns that `minillm.gptq.columns` shows to whoever watches; nothing is rounded here.
Shown is a small problem of its own: some outputs of a real layer, as far as they depend on some of
its inputs, with the Hessian of just these inputs. What happens to all inputs is told below it.

Dimensions: N outputs, K inputs (columns), B x T tokens.
"""

from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor

from minillm import Transformer
from minillm.gptq.columns import gptq
from minillm.gptq.hessian import hessians
from minillm.quantization.model import matrices
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
from widgets.common.controls import choice
from widgets.common.drawing.film import Film
from widgets.common.player import FilmExplorer
from widgets.common.stable import digits, verbatim
from widgets.common.strings import say
from widgets.gptq.film import column_film
from widgets.gptq.rounding import Rounding, relative_error

__all__ = ["ColumnExplorer"]

_OUTPUTS, _INPUTS = 10, 24  # as many as can be drawn


class ColumnExplorer(FilmExplorer):
    """GPTQ at work on a part of a real layer, made anew at every change of a control.

    Args:
        model: in floats.
        tokens: (B, T), the calibration text.
    """

    def __init__(self, model: Transformer, tokens: Int[Tensor, "B T"]):
        last = model.config.num_hidden_layers - 1
        blocks = sorted({0, last // 2, last}, reverse=True)
        self._weights: Mapping[str, Tensor] = {
            name: weight.detach()
            for name, weight in matrices(model).items()
            if name.startswith(tuple(f"blocks.{block}." for block in blocks))
        }
        self._hessians = hessians(model, tokens, list(self._weights))
        names = list(self._weights)
        first = next(name for name in reversed(names) if name.endswith("attention.out"))
        fewest = min(int((H.diagonal() > 0).sum()) for H in self._hessians.values())
        starts = range(0, max(1, fewest - _INPUTS + 1), _INPUTS)
        super().__init__(
            {
                "matrix": choice("matrix", names, value=first, layout={"width": "19em"}),
                "bits": choice("bits", (2, 3, 4), value=3, layout={"width": "11em"}),
                "order": choice(
                    "order", {"left to right": False, "act-order": True}, layout={"width": "17em"}
                ),
            },
            {
                "inputs": choice("inputs from", list(starts)),
                "damping": choice("damping", (0.001, 0.01, 0.1, 1.0), value=0.01),
            },
        )

    @property
    def _spec(self) -> Spec:
        return Spec(f"int{self['bits']}", "channel")

    def film(self) -> Film:
        weight, hessian = self._weights[self["matrix"]], self._hessians[self["matrix"]]
        alive = hessian.diagonal().nonzero()[:, 0]
        part = alive[self["inputs"] :][:_INPUTS]
        self.rounding = Rounding.run(
            weight[:_OUTPUTS, part],
            hessian[part][:, part],
            part.tolist(),
            self._spec,
            damping=self["damping"],
            act_order=self["order"],
        )
        return column_film(self.rounding)

    def opening(self, film: Film) -> int:
        """The column that moves others most, among those with many others to come."""
        moves = [float(column.update.square().sum()) for column in self.rounding.columns]
        return 1 + max(range((len(moves) + 1) // 2), key=moves.__getitem__)

    def errors(self) -> tuple[float, float]:
        """Output errors of the same outputs with all inputs, nearest and GPTQ, in percent."""
        weight = self._weights[self["matrix"]][:_OUTPUTS].double()
        hessian = self._hessians[self["matrix"]]
        more = {"damping": self["damping"], "act_order": self["order"]}
        ways = quantize(weight, self._spec), gptq(weight, hessian, self._spec, **more)
        nearest, ours = (
            100 * relative_error(weight, dequantize(way).double(), hessian) for way in ways
        )
        return nearest, ours

    def summary(self) -> str:
        film, rounding = self.player.film, self.rounding
        N, K = rounding.weight.shape
        outputs, weights = (number.at(film.steps - 1) for number in film.numbers[:2])
        whole = " → ".join(map(digits, self.errors()))
        return (
            f"{self['matrix']}, {self['bits']} bits, {self.controls['order'].label}: {N} outputs, "
            f"{K} of its inputs. Nearest → GPTQ at the end: outputs off by {outputs}, weights by "
            f"{weights}. The same outputs with all {len(self._hessians[self['matrix']])} inputs: "
            f"{whole} % ({say('tag.computed')}). "
            f"Damping {verbatim(str(self['damping']))}, also of H in the sums."
        )
