"""Many requests on one model: each is served as if it were alone, all of them together.

The scheduler says who reads what, the paged cache holds what was read, the model scores what comes
next. One thread, no server: whoever asks for the next step lets it happen.

Dimensions: B jobs that read equally many tokens, T tokens each, V vocabulary.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import torch
from torch import Tensor

from minillm.batch import Batch
from minillm.decoding import Model
from minillm.sampling import GREEDY, Sampler
from minillm.serving.blocks import Blocks
from minillm.serving.paged_cache import PagedCache, Pool
from minillm.serving.request import Read, Request
from minillm.serving.scheduler import Job, Plan, Scheduler
from minillm.speculative.drafters import Drafter, Proposal
from minillm.whole import whole

__all__ = ["Engine", "ServingStep"]


@dataclass(frozen=True)
class ServingStep:
    """What a step did; requests go by their numbers.

    Attributes:
        tokens: written in this step, by request.
        failed: requests whose scores could not be judged, with the error; they are gone.
        ended: requests that wrote their last token, or failed, or whose deadline passed.
        reads: tokens that each request read.
        preempted: requests that lost their blocks.
        held: blocks that are held, known beginnings included.
        seconds: wall-clock time.
    """

    tokens: dict[int, tuple[int, ...]]
    failed: dict[int, ValueError]
    ended: frozenset[int]
    reads: dict[int, int]
    preempted: tuple[int, ...]
    held: int
    seconds: float


class Engine:
    """Serves requests, step by step.

    Args:
        model: what scores the next token.
        blocks: of the pool.
        size: tokens of a block.
        budget: tokens that a step reads, see `Scheduler`.
        rows: requests that run at the same time at most.
        share: whether requests that begin alike share blocks.
        drafter: guesses for those who write; without one each writes a token a step.
        guesses: of each request and step.
    """

    def __init__(
        self,
        model: Model,
        *,
        blocks: int,
        size: int = 16,
        budget: int = 64,
        rows: int = 16,
        share: bool = True,
        drafter: Drafter | None = None,
        guesses: int = 4,
    ):
        self.model, self._drafter = model, drafter
        self._guesses = whole("guesses", guesses, least=1) if drafter else 0
        self.pool = Pool(model.config, Blocks(blocks, size), device=model.device, dtype=model.dtype)
        self.scheduler = Scheduler(
            self.pool.blocks, budget=budget, rows=rows, ahead=self._guesses, share=share
        )
        self._no_guess = Proposal((), torch.zeros(0, model.config.vocab_size, device="cpu"))
        self._requests: dict[int, Request] = {}
        self._submitted = 0
        self._expired: list[int] = []  # requests that no step has told of

    def submit(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        sampler: Sampler = GREEDY,
        generator: torch.Generator | None = None,
        stop: Collection[int] = (),
        deadline: int | None = None,
    ) -> int:
        """Let a request wait for its turn; its number.

        Raises:
            ValueError: arguments that `decode_cached` refuses too, or a text that the pool could
                never hold; no other request is harmed.
        """
        generators = () if generator is None else (generator,)
        batch = Batch(
            self.model.config,
            [prompt],
            max_new_tokens,
            sampler,
            generators,
            stop,
            self.model.device,
        )
        job = Job(self._submitted, batch.texts[0], batch.limits[0], deadline)
        drafting = None
        if self._drafter:
            drafting = self._drafter.start(self.model.config, 1, job.longest + self._guesses)
        self.scheduler.submit(job)
        self._submitted += 1
        self._requests[job.number] = Request(
            job, batch, self._no_guess, sampler, generator, drafting
        )
        return job.number

    def cancel(self, number: int) -> None:
        """Nobody wants the request any more: its blocks are given back.

        Raises:
            ValueError: no such request waits or runs.
        """
        if number not in self._requests:
            raise ValueError(f"no request {number} is waiting or running")
        self.scheduler.finish(self._requests.pop(number).job)

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs, or its end has not been told."""
        return bool(self._requests or self._expired)

    def run(self) -> Iterator[ServingStep]:
        """Step after step, until nobody waits; between two steps requests may come and go.

        What a step raises is passed on, and every request is as before that step. Where the scores
        of one request cannot be judged, such as NaN, it alone ends: see `ServingStep.failed`.
        """
        while self.busy:
            yield self.step()

    def step(self) -> ServingStep:
        """The next step; where nobody waits it reads nothing."""
        start = time.perf_counter()
        plan = self.scheduler.plan()
        for job in plan.expired:
            del self._requests[job.number]
            self._expired.append(job.number)
        tokens, failed = self._forward(plan)
        ill = set[int]()
        for job, _ in plan.reads:
            if job.number in failed:
                ill.update(self.scheduler.prefixes.forget(job.text), job.table.blocks)
            else:
                self.scheduler.has_read(job)
        ended = [number for number in tokens if self._requests[number].batch.all_ended]
        for number in (*ended, *failed):
            self.cancel(number)
        self.pool.erase(ill)
        expired, self._expired = self._expired, []
        return ServingStep(
            tokens,
            failed,
            frozenset([*ended, *failed, *expired]),
            {job.number: count for job, count in plan.reads},
            tuple(job.number for job in plan.preempted),
            self.pool.blocks.count - self.pool.blocks.free,
            time.perf_counter() - start,
        )

    def _forward(self, plan: Plan) -> tuple[dict[int, tuple[int, ...]], dict[int, ValueError]]:
        """What the requests of a plan write, and whose scores cannot be judged."""
        tokens: dict[int, tuple[int, ...]] = {}
        failed: dict[int, ValueError] = {}
        asked = [(self._requests[job.number], count) for job, count in plan.reads]
        before = [(request, request.mark()) for request, _ in asked]
        try:
            with torch.inference_mode():
                reads = [request.read(count, self._guesses) for request, count in asked]
                for read, logits in self._read_all(reads):
                    number = read.request.job.number
                    try:
                        tokens[number] = self._write(read, logits)
                    except ValueError as error:
                        error.add_note(f"in request {number}")
                        failed[number] = error
        except BaseException:
            for request, mark in before:
                request.go_back(mark)
                self.pool.blocks.shrink(request.job.table, mark.read)
            raise
        return tokens, failed

    def _read_all(self, reads: Sequence[Read]) -> list[tuple[Read, Tensor]]:
        """A pass for each number of tokens; who has read all text gets logits (gamma + 1, V)."""
        return [
            pair
            for _, alike in groupby(sorted(reads, key=_width), key=_width)
            for pair in self._pass(list(alike))
        ]

    def _pass(self, reads: list[Read]) -> list[tuple[Read, Tensor]]:
        cache = PagedCache(self.pool, [read.request.job.table for read in reads])
        tokens = torch.tensor([read.tokens for read in reads], device=self.model.device)
        hidden = self.model.hidden(tokens, cache)  # (B, T, C)
        scored, T = [read for read in reads if read.whole], tokens.shape[1]
        if not scored:
            return []
        wanted = [range(b * T + r.count - 1, b * T + T) for b, r in enumerate(reads) if r.whole]
        logits = self.model.head(hidden.flatten(0, 1)[list(chain(*wanted))])
        return list(zip(scored, logits.split(list(map(len, wanted))), strict=True))

    def _write(self, read: Read, logits: Tensor) -> tuple[int, ...]:
        """The tokens that a request writes; of what was read, rejected guesses are forgotten."""
        job, tokens = read.request.job, read.request.write(read, logits)
        self.pool.blocks.shrink(job.table, len(job.text) - 1)
        return tokens


def _width(read: Read) -> int:
    return len(read.tokens)
