"""Lesson 02: how the KV cache grows, what ended rows cost, when a card is full."""

from widgets.kv_cache.capacity import CapacityExplorer
from widgets.kv_cache.films import batch_film, growth_film

__all__ = ["CapacityExplorer", "batch_film", "growth_film"]
