"""Formats compared: bytes, loss and time a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ipywidgets

from widgets.common.chart import ChartExplorer, Claim, Panel, Panels
from widgets.common.chart.chart import interval
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["FormatsExplorer", "Stored"]

_PLAIN = "float32"


@dataclass(frozen=True)
class Stored:
    """A model in one format.

    Attributes:
        bits: stored of a weight, scales included.
        loss: on held-out text, in nats a token.
        milliseconds: of a decode step, of all formats in the same rounds.
        kernel: what multiplied.
    """

    bits: float
    loss: float
    milliseconds: float
    kernel: str


class FormatsExplorer(ChartExplorer):
    """Bits, loss and time of the same model in many formats, each on its own scale.

    Args:
        plain: the model in float32.
        formats: by name.
        tag: where losses and times come from: "measured" now, or "recorded".
    """

    def __init__(self, plain: Stored, formats: Mapping[str, Stored], tag: str = "measured"):
        self._plain, self._formats, self._tag = plain, dict(formats), tag
        super().__init__(
            {"format": ipywidgets.Dropdown(options=list(formats), description="format")}
        )

    def chart(self) -> Panels:
        plain, formats = self._plain, self._formats.values()
        times = [stored.milliseconds for stored in formats]
        slower = [time / plain.milliseconds for time in times]  # times as long as float32
        return Panels(
            title=(
                Claim(
                    "Bits fall, loss hardly rises, time needs a kernel",
                    ((min(slower), 1.0), (1.0, max(slower))),
                ),
                Claim(
                    "Bits fall, loss hardly rises, and no format is faster here",
                    tuple((1.0, time) for time in slower),
                ),
            ),
            rows=list(self._formats),
            panels=(
                Panel("bits a weight", [stored.bits for stored in formats], (plain.bits, _PLAIN)),
                Panel("loss above float32's (nats a token)",
                      [stored.loss - plain.loss for stored in formats], (0.0, ""), "+.3f"),
                Panel("time of a token (ms)", times, (plain.milliseconds, _PLAIN)),
            ),
            marked=self["format"],
        )  # fmt: skip

    def said(self) -> str:
        stored, plain = self._formats[self["format"]], self._plain
        ratio = stored.milliseconds / plain.milliseconds
        low, high = interval(ratio)
        spread = f", {low:.2f} to {high:.2f}" if low < high else ""
        return verbatim(
            f"{self['format']}: {stored.bits:.2f} bits a weight, loss {stored.loss:.4f} against "
            f"{plain.loss:.4f} in float32, {stored.milliseconds:.2f} ms a token against "
            f"{plain.milliseconds:.2f}: {ratio:.2f} times as long{spread} "
            f"({say(f'tag.{self._tag}')}), {stored.kernel}."
        )
