"""GPTQ: round one column at a time, and let those not yet rounded make up for the error.

To read in this order: `hessian` (what the data says of the inputs), `columns` (the algorithm),
`model` (layer by layer).
"""

from minillm.gptq.columns import gptq
from minillm.gptq.hessian import Hessian, hessians
from minillm.gptq.model import gptq_model

__all__ = ["Hessian", "gptq", "gptq_model", "hessians"]
