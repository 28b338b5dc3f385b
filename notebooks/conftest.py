"""Lessons run two at a time, each in a kernel with one thread."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
