"""Threads that help with compiled calls where a core is free, and stay away where none is.

A helper waits for the next call in compiled code, without Python's lock, and after a while without
one it goes to sleep. If another process has its core, all wait at the end of a part until that
process has used up its turn: some milliseconds, where a whole step of a small model takes one. So
after such a wait all calls are made alone for a while, after the next one for four times as long.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable
from itertools import count
from math import inf
from queue import SimpleQueue
from typing import Any

import torch

from minillm.fast.kernels.layers import help_with, lead

__all__ = ["MOST_THREADS", "TEAM", "Team"]

MOST_THREADS = 4  # threads; on two cores two are measured
_LOOKS = 20_000  # some hundred microseconds: longer than any part, shorter than a process's turn
_PATIENCE = 200_000
_LEAST, _MORE, _LONGEST = 0.01, 4, 0.64  # seconds alone after a long wait


class Team:
    """The helpers of a process; it serves one call at a time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._numbers = count(2, 2)  # of calls; odd ones mean that a call is being written
        self._lock = threading.Lock()
        self._helpers: list[_Helper] = []
        self._rest = _LEAST  # seconds alone after the next long wait
        self._until = -inf  # the end of those after the last one

    def threads(self) -> int:
        """Of the next call: torch's, up to four, or one after a long wait."""
        threads = min(torch.get_num_threads(), MOST_THREADS)
        return 1 if threads > 1 and self._clock() < self._until else threads

    def call(self, calls: Any, threads: int, owner: Any) -> None:
        """Make the call that calls[1] describes, with whoever is free.

        Args:
            calls: see `minillm.fast.kernels.layers.lead`.
            threads: at most so many.
            owner: of the memory that the call is about; helpers keep it.
        """
        if threads > 1:
            with self._lock:
                while len(self._helpers) < threads - 1:
                    self._helpers.append(_Helper(len(self._helpers) + 1))
                for helper in self._helpers[: threads - 1]:
                    helper.invite(calls, owner)
        if lead(calls, next(self._numbers)) > _LOOKS:
            self._stay_away()

    def end(self) -> None:
        """Let the helpers end: one that came back from compiled code after Python would abort."""
        with self._lock:
            helpers, self._helpers = self._helpers, []
        for helper in helpers:
            helper.end()

    def _stay_away(self) -> None:
        """For a while; for longer if the last time was not long ago."""
        now = self._clock()
        soon = now - self._until < 10 * self._rest
        self._rest = min(_MORE * self._rest, _LONGEST) if soon else _LEAST
        self._until = now + self._rest


class _Helper:
    def __init__(self, number: int):
        self._invited: SimpleQueue[Any] = SimpleQueue()
        self._free = True
        self._thread = threading.Thread(target=self._serve, args=(number,), daemon=True)
        self._thread.start()

    def invite(self, calls: Any, owner: Any) -> None:
        if self._free:
            self._free = False
            self._invited.put((calls, owner))

    def end(self) -> None:
        self._invited.put(None)
        self._thread.join()

    def _serve(self, number: int) -> None:
        while (invited := self._invited.get()) is not None:
            calls, owner = invited
            help_with(calls, number, _PATIENCE)
            del invited, calls, owner
            self._free = True


TEAM = Team()
atexit.register(TEAM.end)


def _begin_anew() -> None:
    """After a fork there are no helpers, and a lock that one held is held for ever."""
    TEAM.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
