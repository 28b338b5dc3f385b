"""A request between two steps, and what it reads in one: its text, guesses, random numbers, end.

Dimensions: gamma guesses of a step, V vocabulary.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.batch import Batch
from minillm.sampling import Sampler
from minillm.serving.scheduler import Job
from minillm.speculative.decode import judge
from minillm.speculative.drafters import Drafting, Proposal

__all__ = ["Mark", "Read", "Request"]


@dataclass(frozen=True, eq=False)
class Read:
    """So many tokens of a text, and the guesses behind them.

    Attributes:
        count: tokens of the text.
        tokens: these, and the guesses.
        whole: whether nothing of the text is left unread, so that the model's scores are needed.
        proposal: the guesses.
        u: (gamma + 1,), the uniforms of `minillm.speculative.verification.verify`.
    """

    request: "Request"
    count: int
    tokens: list[int]
    whole: bool
    proposal: Proposal
    u: Tensor


@dataclass(frozen=True)
class Mark:
    """Where a request stands between two steps.

    Attributes:
        written: tokens of its text.
        read: those of them that its blocks hold.
        ended: whether it wants no more.
        drawn: the state of its generator; None for a greedy one.
    """

    written: int
    read: int
    ended: bool
    drawn: Tensor | None


@dataclass(eq=False)
class Request:
    """A job of the scheduler, its text's bookkeeping, and who guesses for it.

    Attributes:
        batch: of one row, whose text is the job's.
        no_guess: what is read where nobody guesses.
    """

    job: Job
    batch: Batch
    no_guess: Proposal
    sampler: Sampler
    generator: torch.Generator | None
    drafting: Drafting | None

    def mark(self) -> Mark:
        drawn = self.generator.get_state() if self.generator else None
        return Mark(len(self.job.text), self.job.table.length, self.batch.ended[0], drawn)

    def go_back(self, mark: Mark) -> None:
        """Forget what was written and drawn since; the blocks are the engine's affair."""
        del self.job.text[mark.written :]
        self.batch.ended[0] = mark.ended
        if self.generator and mark.drawn is not None:
            self.generator.set_state(mark.drawn)
        if self.drafting:
            self.drafting.settle(self.batch.texts)

    def read(self, count: int, guesses: int) -> Read:
        """The next `count` tokens; who has one to read and several to write may guess as well."""
        job, n = self.job, 0
        if self.drafting and job.unread == 1:
            n = min(guesses, self.batch.left(0) - 1)
        whole = count == job.unread
        u = self.batch.uniforms(0, 2 * n + 1 if whole else 0)
        proposal = self.no_guess
        if self.drafting and n:
            [proposal] = self.drafting.propose(self.batch.texts, [n], self.sampler, [u])
        unread = job.text[job.table.length :][:count]
        return Read(self, count, [*unread, *proposal.guesses], whole, proposal, u[n:])

    def write(self, read: Read, logits: Float[Tensor, "gamma1 V"]) -> tuple[int, ...]:
        """Judge the guesses and append what comes out, of which the last token is unread."""
        row = judge(self.batch, 0, read.proposal, logits, read.u, self.sampler)
        if self.drafting:
            self.drafting.settle(self.batch.texts)
        return row.tokens
