"""A known bug, and the oracle that must notice."""

from dataclasses import dataclass

from minillm.speculative.bug_gallery import Patch

__all__ = ["Mutation"]


@dataclass(frozen=True)
class Mutation(Patch):
    """A patch that `oracle` must notice."""

    oracle: str
