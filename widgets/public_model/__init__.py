"""Lesson 15: the course's findings side by side, on `stories` and on a public model."""

from widgets.public_model.side_by_side import SideBySideExplorer
from widgets.public_model.table import Findings

__all__ = ["Findings", "SideBySideExplorer"]
