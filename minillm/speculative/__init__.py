"""Guess and verify: a cheap guesser writes ahead, the target checks all its guesses in one pass.

To read in this order: `verification` (the judge), `drafters` and `prompt_lookup` (who guesses),
`decode` (the round), `exactness` (its law, enumerated), `bug_gallery` (seven defects to hunt).
"""

from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel, early_exit
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.speculative.verification import residual, verify

__all__ = [
    "DraftModel",
    "PromptLookup",
    "decode_speculative",
    "early_exit",
    "residual",
    "verify",
]
