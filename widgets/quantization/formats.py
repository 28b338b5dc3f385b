"""Formats compared: bytes, loss and time a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import ipywidgets

from widgets.common.chart import Chart, ChartExplorer, Columns
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["FormatsExplorer", "Stored"]


@dataclass(frozen=True)
class Stored:
    """A model in one format.

    Attributes:
        bits: stored of a weight, scales included.
        loss: on held-out text, in nats a token.
        milliseconds: of a decode step on this machine.
        kernel: what multiplied.
    """

    bits: float
    loss: float
    milliseconds: float
    kernel: str


class FormatsExplorer(ChartExplorer):
    """Loss, bits and time of the same model in many formats.

    Args:
        plain: the model in float32.
        formats: by name.
    """

    _TITLES: ClassVar = {
        "all three": "Bits fall, loss hardly rises, time needs a kernel",
        "loss": "Down to four bits the loss hardly rises",
        "bits": "What is stored: codes and scales",
        "time": "Fewer bits are faster only with a kernel that reads them",
    }

    def __init__(self, plain: Stored, formats: Mapping[str, Stored]):
        self._plain, self._formats = plain, dict(formats)
        super().__init__(
            {
                "show": ipywidgets.Dropdown(options=list(self._TITLES), description="show"),
                "format": ipywidgets.Dropdown(options=list(formats), description="format"),
            }
        )

    def shares(self) -> dict[str, list[float]]:
        """Of loss, bits and time: what each format has of float32's, in percent."""
        plain, formats = self._plain, self._formats.values()
        return {
            "loss": [100 * stored.loss / plain.loss for stored in formats],
            "bits": [100 * stored.bits / plain.bits for stored in formats],
            "time": [100 * stored.milliseconds / plain.milliseconds for stored in formats],
        }

    def chart(self) -> Chart:
        show, names = self["show"], list(self._formats)
        return Chart(
            title=self._TITLES[show],
            x_title="format",
            y_title="of float32 (%)",
            series=tuple(
                Columns(what, names, shares if show in ("all three", what) else [0.0] * len(names))
                for what, shares in self.shares().items()
            ),
        )

    def summary(self) -> str:
        stored = self._formats[self["format"]]
        return verbatim(
            f"{self['format']}: {stored.bits:.2f} bits a weight, loss {stored.loss:.4f} against "
            f"{self._plain.loss:.4f} in float32, {stored.milliseconds:.2f} ms a token against "
            f"{self._plain.milliseconds:.2f} ({say('tag.measured')}; {stored.kernel})."
        )
