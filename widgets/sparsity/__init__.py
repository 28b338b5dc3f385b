"""Lesson 09: attention under a threshold, neurons that a text opens, and what zeros are worth."""

from widgets.sparsity.batches import RateExplorer, UnionExplorer
from widgets.sparsity.explorers import AttentionExplorer, NeuronExplorer
from widgets.sparsity.films import attention_film, neuron_film
from widgets.sparsity.gain import SkippingExplorer, measure_costs

__all__ = [
    "AttentionExplorer",
    "NeuronExplorer",
    "RateExplorer",
    "SkippingExplorer",
    "UnionExplorer",
    "attention_film",
    "measure_costs",
    "neuron_film",
]
