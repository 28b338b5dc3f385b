"""The uniform of every place of a text, fixed before anything is decided there.

The plain sampler draws one number for each token. A decoder that looks ahead may choose at a place
many times; with the number that the plain sampler would draw there, its text is the plain one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.batch import Batch

__all__ = ["Noise"]


class Noise:
    """The next uniforms of row b of a batch, in the order of its places."""

    def __init__(self, batch: Batch, b: int):
        self._batch, self._b = batch, b
        self._drawn = batch.uniforms(b, 0)

    def ahead(self, count: int) -> Float[Tensor, " N"]:
        """Those of the next `count` places; asking again gives the same."""
        if (missing := count - len(self._drawn)) > 0:
            self._drawn = torch.cat((self._drawn, self._batch.uniforms(self._b, missing)))
        return self._drawn[:count]

    def spend(self, count: int) -> None:
        """So many places are decided."""
        self._drawn = self._drawn[count:]
