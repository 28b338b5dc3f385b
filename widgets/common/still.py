"""What a notebook keeps of a widget: a still, which shows wherever the widget itself cannot.

A widget is two outputs: the still, then the live view. The style in the still hides it where the
widget lives, and hides the front end's error where it does not. The picture is an `<img>`, which
front ends show without trust, scale to the page, and read out by its `alt`.

| front end        | kernel runs   | saved, no kernel | not trusted | known from            |
|------------------|---------------|------------------|-------------|-----------------------|
| JupyterLab 4.6   | widget        | still            | still       | tests/browser         |
| Notebook 7.6     | widget        | still            | still       | tests/browser         |
| Voila 0.5        | widget        |                  |             | tests/browser         |
| nbconvert, print |               | still            | still       | tests/browser         |
| nbviewer         |               | still            | still       | it runs nbconvert     |
| VS Code          | still, widget | still, an error  | still       | its MIME types' order |
| GitHub           |               | still            | still       | notebooks of others   |
"""

from __future__ import annotations

import base64
import re
from typing import Any
from xml.sax.saxutils import quoteattr

from IPython.display import display

__all__ = ["VIEW", "Pictured", "inlined"]

VIEW = "application/vnd.jupyter.widget-view+json"

# Outputs are neighbours in JupyterLab, Notebook and Voila. A view that is loading, or has lost its
# model, holds words and no element.
_STYLE = """<style>
.jp-OutputArea-child:has(.minillm-still):has(+ .jp-OutputArea-child .minillm),
.jp-OutputArea-child:has(.minillm-still) + * > .jp-OutputArea-output:not(:has(*)) {
  display: none;
}
@media print {
  .minillm-still details::details-content { content-visibility: visible; block-size: auto; }
  pre, pre code { font-size: 10px !important; white-space: pre-wrap !important; }
}
</style>"""
_PICTURE = re.compile(r'<img [^>]*src="data:image/svg\+xml;base64,([^"]*)"[^>]*>')


class Pictured:
    """Mixin for widgets: adds `picture()` and `summary()` to what a notebook stores.

    Stands before the widget class: `class Explorer(Pictured, ipywidgets.VBox)`.
    """

    def picture(self) -> str:
        """An SVG document."""
        raise NotImplementedError

    def summary(self) -> str:
        """The picture's numbers, in a line of text."""
        raise NotImplementedError

    def still(self) -> str:
        """What is shown without the widget, as HTML."""
        drawing = base64.b64encode(self.picture().encode()).decode()
        return (
            f'<img alt={quoteattr(self.summary())} style="width: 100%; max-width: 960px" '
            f'src="data:image/svg+xml;base64,{drawing}">'
        )

    def outputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The still and the live view, as a notebook holds them."""
        bundle: Any = super()._repr_mimebundle_()  # type: ignore[misc]
        live = bundle[0] if isinstance(bundle, tuple) else bundle or {}
        still = f'{_STYLE}\n<div class="minillm-still">{self.still()}</div>'
        return {"text/html": still, "text/plain": self.summary()}, {
            mime: data for mime, data in live.items() if mime == VIEW
        }

    def _ipython_display_(self) -> None:
        for output in self.outputs():
            display(output, raw=True)


def inlined(html: str) -> str:
    """HTML with the drawings themselves in place of the images that hold them."""
    return _PICTURE.sub(lambda image: base64.b64decode(image[1]).decode(), html)
