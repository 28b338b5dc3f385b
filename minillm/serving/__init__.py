"""Serving: many requests on one model, in the order to read: blocks, paged_cache, prefix,
scheduler, engine; then workload, record, replay, simulate.
"""

from minillm.serving.blocks import Blocks, OutOfBlocksError
from minillm.serving.engine import Engine, ServingStep
from minillm.serving.paged_cache import PagedCache, paged

__all__ = ["Blocks", "Engine", "OutOfBlocksError", "PagedCache", "ServingStep", "paged"]
