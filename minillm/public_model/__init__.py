"""Which findings hold elsewhere? The course's findings, measured on any model that `load` reads.

`subject` is what is measured: a model, its fast twin, and texts. `costs`, `guessing`, `inside` and
`again` hold one function for each finding; `findings` names them, says from which lesson they are,
and reads what was recorded of `stories` and of SmolLM2; `rule` compares the two.
"""

from minillm.public_model.findings import FINDINGS, Finding, Point, measured, read
from minillm.public_model.rule import verdict
from minillm.public_model.subject import Subject

__all__ = ["FINDINGS", "Finding", "Point", "Subject", "measured", "read", "verdict"]
