"""Who reads what in the next step: continuous batching over a pool of blocks. It knows no model.

Static batching waits until the longest text of a batch is done. Here a request joins as soon as
blocks are free and leaves as soon as it has ended (continuous batching). A long prompt is read in
chunks within a budget of tokens a step, so that those who write meanwhile do not wait for all of it
(chunked prefill). When blocks run out, the newest request gives back its own and later reads its
text again (preemption by recomputing).

A text is read up to its last token; then the model has a next one to offer. Prefill and decode
differ only in how many tokens are unread: many, or one.

Sources: Orca (OSDI 2022), PagedAttention (arXiv 2309.06180), Sarathi-Serve (arXiv 2403.02310).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from minillm.serving.blocks import Blocks, Table
from minillm.serving.prefix import PrefixTree
from minillm.whole import whole

__all__ = ["Job", "Plan", "Scheduler"]


@dataclass(eq=False)
class Job:
    """A request as the scheduler sees it.

    Attributes:
        number: in the order of arrival.
        text: the prompt, and what has been written so far; whoever runs the model appends to it.
        longest: tokens that the text may grow to.
        deadline: the step from which on nobody waits for it any more.
        table: where its keys and values lie; it has read `table.length` tokens.
    """

    number: int
    text: list[int]
    longest: int
    deadline: int | None = None
    table: Table = field(default_factory=Table)

    @property
    def unread(self) -> int:
        return len(self.text) - self.table.length


@dataclass(frozen=True)
class Plan:
    """What one step does.

    Attributes:
        reads: jobs with the number of tokens that each reads, in order of arrival.
        preempted: jobs that lost their blocks and wait again.
        expired: jobs whose deadline has passed; they are gone.
    """

    reads: tuple[tuple[Job, int], ...]
    preempted: tuple[Job, ...]
    expired: tuple[Job, ...]


class Scheduler:
    """Plans step after step; the same arrivals give the same plans.

    Args:
        blocks: the ledger of the pool.
        budget: tokens that a step reads at most, but one for each who writes.
        rows: jobs that run at the same time at most.
        ahead: tokens beyond its text that a job may need room for in a step, such as guesses.
        share: whether known beginnings are looked up and remembered.
    """

    def __init__(
        self, blocks: Blocks, *, budget: int, rows: int, ahead: int = 0, share: bool = True
    ):
        self.blocks, self.prefixes = blocks, PrefixTree(blocks)
        self.budget, self.rows = whole("budget", budget, least=1), whole("rows", rows, least=1)
        self.ahead, self.share = whole("ahead", ahead), share
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self._step = 0

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            ValueError: it could never fit into the pool.
        """
        needed = self.blocks.needed(job.longest + self.ahead)
        if needed > self.blocks.count:
            raise ValueError(
                f"a text of {job.longest} tokens needs {needed} blocks of {self.blocks.size}, "
                f"the pool has {self.blocks.count}"
            )
        self.waiting.append(job)

    def finish(self, job: Job) -> None:
        """The job has ended or is no longer wanted: its blocks are given back."""
        for jobs in (self.waiting, self.running):
            if job in jobs:
                jobs.remove(job)
        self.blocks.shrink(job.table, 0)

    def plan(self) -> Plan:
        """The next step. Its reads have room: for what they read and `ahead` tokens more.

        Raises:
            RuntimeError: there are jobs and none of them has anything to read, so that their
                tables are wrong; without it the steps would never end.
        """
        self._step += 1
        expired = [job for job in (*self.running, *self.waiting) if self._is_late(job)]
        for job in expired:
            self.finish(job)
        reads: dict[Job, int] = {}
        preempted: list[Job] = []
        for job in self._by_age(lambda job: job.unread == 1):
            if job in self.running and self._make_room(job, 1, preempted):
                reads[job] = 1
        left = max(self.budget - len(reads), 0)
        for job in self._by_age(lambda job: job.unread > 1):
            count = min(job.unread, left)
            if count and job in self.running and self._make_room(job, count, preempted):
                reads[job], left = count, left - count
        while left and self.waiting and len(self.running) < self.rows and not preempted:
            if not self._admit(job := self.waiting[0]):
                break
            count = min(job.unread, left)
            self._make_room(job, count, preempted)
            reads[job], left = count, left - count
        if max(reads.values(), default=0) < 1 and (self.running or self.waiting):
            raise RuntimeError("there are jobs, and none of them can go on")
        kept = sorted((job.number, job) for job in reads if job in self.running)
        return Plan(tuple((job, reads[job]) for _, job in kept), tuple(preempted), tuple(expired))

    def has_read(self, job: Job) -> None:
        """Remember the beginning of a job that has read something."""
        if self.share:
            self.prefixes.insert(job.text[: job.table.length], job.table.blocks)

    def _is_late(self, job: Job) -> bool:
        return job.deadline is not None and self._step >= job.deadline

    def _by_age(self, wanted: Callable[[Job], bool]) -> list[Job]:
        return sorted(filter(wanted, self.running), key=lambda job: job.number)

    def _admit(self, job: Job) -> bool:
        """Let a waiting job run, if the pool has room for its text as it is."""
        if self.share:
            self._begin_with_known(job)
        room = self.blocks.free + self.prefixes.evictable
        if self._missing(job, job.unread) > room:
            self.blocks.shrink(job.table, 0)
            return False
        self.waiting.remove(job)
        self.running.append(job)
        return True

    def _begin_with_known(self, job: Job) -> None:
        """Share the blocks of a known beginning; the last token is always read anew."""
        job.table.blocks = self.prefixes.match(job.text[:-1])
        for block in job.table.blocks:
            self.blocks.share(block)
        job.table.length = len(job.table.blocks) * self.blocks.size

    def _missing(self, job: Job, count: int) -> int:
        return self.blocks.missing(job.table, job.table.length + count + self.ahead)

    def _make_room(self, job: Job, count: int, preempted: list[Job]) -> bool:
        """Free blocks for what a job reads: forget beginnings, then preempt the newest.

        False where the job itself was the newest.

        Raises:
            RuntimeError: a shared block would be written, whose copy only the pool could make.
        """
        while self._missing(job, count) > self.blocks.free:
            if self.prefixes.evict():
                continue
            newest = max(self.running, key=lambda running: running.number)
            self._preempt(newest)
            preempted.append(newest)
            if newest is job:
                return False
        if self.blocks.reserve(job.table, job.table.length + count + self.ahead):
            raise RuntimeError(f"request {job.number} would write into a block that others read")
        return True

    def _preempt(self, job: Job) -> None:
        self.running.remove(job)
        self.blocks.shrink(job.table, 0)
        self.waiting.insert(0, job)
