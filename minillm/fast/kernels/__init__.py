"""Loops over raw memory, compiled by numba, which nothing else of the package knows.

To read in this order: `memory` (how they compile), `float32` (between two matrices), `neurons`
(open gates alone), `int8` (products of bytes), `step` (a whole model).
"""
