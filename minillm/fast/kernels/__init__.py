"""Loops over raw memory, compiled by numba, which nothing else of the package knows.

To read in this order: `memory` (how they compile), `float32` (between two matrices), `panels`
(products of a few rows), `team` (threads that share work), `call`, `attention` and `layers` (a step
of a model), `neurons` (open gates alone), `int8` (products of bytes).
"""
