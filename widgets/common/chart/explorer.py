"""Controls over a chart."""

from __future__ import annotations

import ipywidgets

from widgets.common.chart.chart import Chart
from widgets.common.chart.figure import Figure
from widgets.common.chart.live import Drawing, drawing
from widgets.common.chart.panels import Panels, panel_drawing, panel_picture
from widgets.common.chart.static import picture
from widgets.common.controls import Explorer
from widgets.common.strings import say

__all__ = ["ChartExplorer"]


class ChartExplorer(Explorer):
    """A subclass gives `chart()` and `said()`, which read the controls."""

    def chart(self) -> Chart | Panels:
        raise NotImplementedError

    def said(self) -> str:
        """What the chart shows, in words."""
        raise NotImplementedError

    def summary(self) -> str:
        doubt = "" if self._chart.decided else say("chart.doubt") + " "
        return doubt + self.said()

    def picture(self) -> str:
        if isinstance(self._chart, Panels):
            return panel_picture(self._chart, self.summary())
        return picture(self._chart, self.summary())

    def show(self) -> ipywidgets.Widget:
        self._chart = self.chart()
        self._drawn = self._drawing()
        self.view = Figure(self._drawn)
        return self.view

    def _drawing(self) -> Drawing:
        if isinstance(self._chart, Panels):
            return panel_drawing(self._chart)
        return drawing(self._chart)

    def refresh(self) -> None:
        self._chart = self.chart()
        old, new = self._drawn, self._drawing()
        with self.view.batch_update():
            for trace, before, after in zip(self.view.data, old["data"], new["data"], strict=True):
                trace.update(_changes(before, after))
            changed = _changes(old["layout"], new["layout"])
            if "annotations" in changed:  # else those that are no longer there stay
                self.view.layout.annotations = changed.pop("annotations")
            self.view.layout.update(changed)
        self._drawn = new
        self._keep()

    def _keep(self) -> None:
        """What a page reload shows: else the first state, or half of the last one.

        plotly takes what a browser reports back for defaults, and drops it from its own data.
        """
        uids = [trace.uid for trace in self.view.data]
        self.view._widget_data = [
            trace | {"uid": uid} for trace, uid in zip(self._drawn["data"], uids, strict=True)
        ]
        self.view._widget_layout = self._drawn["layout"]


def _changes(before: Drawing, after: Drawing) -> Drawing:
    """What plotly has to redraw: updating all of it takes several times as long."""
    return {key: value for key, value in after.items() if before.get(key) != value}
