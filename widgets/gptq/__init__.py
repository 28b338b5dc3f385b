"""Lesson 11: one column at a time, its error pushed to those still to come."""

from widgets.gptq.columns import ColumnExplorer
from widgets.gptq.film import column_film
from widgets.gptq.rounding import relative_error

__all__ = ["ColumnExplorer", "column_film", "relative_error"]
