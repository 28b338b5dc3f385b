"""A lesson as slides over a kernel: `python -m widgets.site.live LESSON.ipynb`.

Voila runs the lesson for whoever opens the page, and its widgets stay connected to the kernel;
`live.html.j2` gives the page the look and the keys of the site's slides. The address has a token,
since whoever opens it is given a kernel. Further options are Voila's.
"""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from nbformat import NotebookNode
from traitlets.config import Config
from voila.app import Voila

from widgets.common.strings import section
from widgets.site.page import look, marks

__all__ = ["Lecture", "OwnKernel", "main"]

_HERE = Path(__file__).parent
_STRANGE = ["@jupyter-notebook/lab-extension"]  # Notebook's own, which logs errors in Voila


class OwnKernel(KernelSpecManager):
    """The kernel of this environment, whatever else a user has installed as "python3"."""

    def _kernel_dirs_default(self) -> list[str]:
        return []


class Lecture(Voila):
    """Voila with the template of this folder; the browser opens with the token."""

    def setup_template_dirs(self) -> None:
        super().setup_template_dirs()
        self.template_paths.insert(0, str(_HERE))

    def launch_browser(self) -> None:
        webbrowser.open(f"{self.connection_url}?token={self.identity_provider.token}")


def marked(_request: Any, notebook: NotebookNode, cwd: str) -> None:
    """Tell the template each cell's part in a question, from the outputs that are committed."""
    for cell, mark in zip(notebook.cells, marks(notebook), strict=True):
        cell.metadata["mark"] = str(mark)


def main(arguments: Sequence[str]) -> None:
    """Serve this notebook until it is interrupted."""
    config = Config()
    config.Voila.auto_token = True
    config.VoilaExporter.template_file = "live.html.j2"
    config.VoilaConfiguration.strip_sources = False
    config.VoilaConfiguration.extension_denylist = _STRANGE
    config.VoilaConfiguration.kernel_spec_manager_class = OwnKernel
    config.VoilaConfiguration.prelaunch_hook = marked
    config.VoilaConfiguration.resources = {"words": section("site"), "look": look()}
    Lecture.launch_instance(list(arguments), config=config)


if __name__ == "__main__":
    main(sys.argv[1:])
