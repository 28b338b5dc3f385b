"""Lesson 01: the distribution a token is drawn from, and what each token costs."""

from widgets.decoding.explorers import CostExplorer, DistributionExplorer

__all__ = ["CostExplorer", "DistributionExplorer"]
