"""Bugs that implementations of this kind have had, as patches of our source, by lesson.

Each names the module, the text it replaces, and the oracle that must notice. Most are cases of
public code; those that are not are marked "constructed". Bugs of zeros and of fewer bits are in
`tests/<stem>/test_mutations.py`.
"""

from mutations import decoding, jacobi, kv_cache, lookahead, speculative, transformer
from mutations.mutation import Mutation

__all__ = ["BUGS", "Mutation"]

BUGS = [
    bug
    for lesson in (transformer, kv_cache, decoding, speculative, lookahead, jacobi)
    for bug in lesson.BUGS
]
