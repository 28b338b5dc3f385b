"""Whatever arrives beside it, a request's text is that of its single run, and no block leaks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracles import tiny
from torch import Tensor

import minillm
from minillm import Sampler
from minillm.batch import Batch
from minillm.decoding import collect, decode_cached
from minillm.serving import Engine, PagedCache, workload
from minillm.serving.blocks import Blocks
from minillm.serving.engine import ServingStep
from minillm.serving.prefix import PrefixTree
from minillm.serving.replay import follow
from minillm.serving.scheduler import Job, Scheduler
from minillm.speculative.decode import decode_speculative, judge
from minillm.speculative.drafters import DraftModel, early_exit
from minillm.speculative.prompt_lookup import PromptLookup

MODEL = tiny(minillm, dtype=torch.float64)


@dataclass(frozen=True)
class Asked:
    """A request, when it arrives, and after how many tokens nobody wants it any more."""

    prompt: tuple[int, ...]
    more: int
    arrives: int
    cancelled_at: int | None = None


ASKED = st.builds(
    Asked,
    prompt=st.lists(st.integers(0, 7), min_size=1, max_size=20).map(tuple),
    more=st.integers(1, 10),
    arrives=st.integers(0, 12),
    cancelled_at=st.none() | st.integers(0, 20),
)


@dataclass
class Served:
    """What came of some requests."""

    texts: dict[int, list[int]]
    numbers: dict[int, Asked]
    plans: list[Any]
    cancelled: set[int]


def serve(engine: Engine, asked: list[Asked], check: Callable[[ServingStep], None]) -> Served:
    """Let requests arrive and be cancelled at their steps, until none is left."""
    served = Served({}, {}, [], set())
    coming = sorted(asked, key=lambda one: one.arrives)
    for now in range(1000):
        while coming and coming[0].arrives <= now:
            one = coming.pop(0)
            number = engine.submit(one.prompt, max_new_tokens=one.more)
            served.numbers[number], served.texts[number] = one, []
        for number, one in served.numbers.items():
            if one.cancelled_at == now and len(served.texts[number]) < one.more:
                engine.cancel(number)
                served.cancelled.add(number)
        step = next(engine.run(), None)
        if step is None and not coming:
            return served
        if step is not None:
            for number, tokens in step.tokens.items():
                served.texts[number] += tokens
            served.plans.append((step.reads, step.preempted))
            check(step)
    raise AssertionError("not served in 1,000 steps")


def count_holders(engine: Engine) -> None:
    """Each block's count is that of the tables and beginnings that hold it."""
    scheduler, ledger = engine.scheduler, engine.pool.blocks
    held = [block for job in (*scheduler.running, *scheduler.waiting) for block in job.table.blocks]
    held += [child.block for _, _, child in scheduler.prefixes._walk(scheduler.prefixes._root)]
    assert ledger.holders == [held.count(block) for block in range(ledger.count)]
    assert ledger.free == ledger.holders.count(0)
    assert not any(job.table.blocks or job.table.length for job in scheduler.waiting)
    for job in scheduler.running:
        assert len(job.table.blocks) >= ledger.needed(job.table.length)
        assert job.unread >= 1


def alone(one: Asked) -> list[int]:
    [text] = collect(decode_cached(MODEL, [one.prompt], max_new_tokens=one.more))
    return text


@dataclass(frozen=True)
class Serving:
    """Requests, and the engine that is to serve them."""

    asked: list[Asked]
    size: int
    spare: int
    budget: int
    rows: int
    share: bool


SERVINGS = st.builds(
    Serving,
    asked=st.lists(ASKED, min_size=1, max_size=8),
    size=st.integers(1, 5),
    spare=st.integers(0, 8),
    budget=st.integers(1, 12),
    rows=st.integers(1, 5),
    share=st.booleans(),
)
some = partial(  # a wrong text fails at once: shrinking it would take minutes
    settings, deadline=None, database=None, phases=[Phase.generate]
)


def serves_each_as_if_alone(one: Serving) -> None:
    smallest = max(-(-(len(each.prompt) + each.more) // one.size) for each in one.asked)
    make = partial(
        Engine,
        MODEL,
        blocks=smallest + one.spare,
        size=one.size,
        budget=one.budget,
        rows=one.rows,
        share=one.share,
    )
    engine = make()
    served = serve(engine, one.asked, lambda step: count_holders(engine))
    for number, each in served.numbers.items():
        text = served.texts[number]
        assert text == alone(each)[: len(text) if number in served.cancelled else None]
    while engine.scheduler.prefixes.evict():
        pass
    assert engine.pool.blocks.free == engine.pool.blocks.count
    assert serve(make(), one.asked, lambda step: None).plans == served.plans


@some(max_examples=10)
@given(SERVINGS)
def test_each_text_is_its_single_run(one: Serving) -> None:
    serves_each_as_if_alone(one)


def test_a_beginning_read_twice_at_once_is_kept_once_and_can_be_given_back() -> None:
    asked = [Asked((4, 1, 7, 1, 0), 1, 1), Asked((2,), 7, 3), Asked((2,), 9, 11)]
    serves_each_as_if_alone(Serving(asked, size=1, spare=1, budget=1, rows=2, share=True))
    engine = Engine(MODEL, blocks=30, size=1)
    serve(engine, [Asked((1, 2, 3), 4, 0)] * 2, lambda step: count_holders(engine))
    assert engine.scheduler.prefixes.evictable == len(engine.scheduler.prefixes.held) == 6


@pytest.mark.slow
@some(max_examples=150)
@given(SERVINGS)
def test_each_of_many_texts_is_its_single_run(one: Serving) -> None:
    serves_each_as_if_alone(one)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("guesses", [1, 2, 5])
def test_guessing_changes_no_text_and_saves_steps(guesses: int, rows: int) -> None:
    asked = [Asked((1, 2, 3, 1, 2), 12, 0), Asked((4, 4, 4), 9, 1), Asked((7,), 1, 2)]
    plain = serve(Engine(MODEL, blocks=40, size=3, rows=rows), asked, lambda step: None)
    engine = Engine(MODEL, blocks=40, size=3, rows=rows, drafter=PromptLookup(), guesses=guesses)
    guessed = serve(engine, asked, lambda step: count_holders(engine))
    assert guessed.texts == plain.texts == dict(enumerate(map(alone, asked)))
    assert len(guessed.plans) < len(plain.plans)


@pytest.mark.parametrize("budget", [64, 2])
def test_a_sampled_text_has_its_own_random_numbers(budget: int) -> None:
    engine = Engine(MODEL, blocks=20, size=4, budget=budget)
    prompts, more = [(1, 2, 3), (4,), (5, 6)], 8
    for seed, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(seed)
        engine.submit(prompt, max_new_tokens=more, sampler=Sampler(), generator=generator)
    texts: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for step in engine.run():
        for number, tokens in step.tokens.items():
            texts[number] += tokens
    for seed, prompt in enumerate(prompts):
        numbers = [torch.Generator().manual_seed(seed)]
        single = decode_cached(
            MODEL, [prompt], max_new_tokens=more, sampler=Sampler(), generators=numbers
        )
        assert [texts[seed]] == collect(single)


def test_the_newest_is_preempted_and_still_gets_its_text() -> None:
    engine = Engine(MODEL, blocks=6, size=2, share=False)
    asked = [Asked((1, 2, 3), 6, 0), Asked((4, 5, 6), 6, 0)]
    served = serve(engine, asked, lambda step: count_holders(engine))
    assert [number for _, preempted in served.plans for number in preempted][:1] == [1]
    assert [served.texts[number] for number in (0, 1)] == [alone(one) for one in asked]


def test_who_was_preempted_comes_before_who_has_not_run() -> None:
    scheduler = Scheduler(Blocks(4, 2), budget=9, rows=2, share=False)
    jobs = [Job(number, [0] * 3, longest=8) for number in range(3)]
    for job in jobs:
        scheduler.submit(job)
    while not (plan := scheduler.plan()).preempted:
        for job, count in plan.reads:
            job.table.length += count
            job.text.append(0)
    assert plan.preempted == (jobs[1],)
    assert scheduler.waiting == [jobs[1], jobs[2]]


def test_what_could_never_fit_is_refused_and_harms_no_other() -> None:
    engine = Engine(MODEL, blocks=3, size=2)
    number = engine.submit([1, 2], max_new_tokens=3)
    with pytest.raises(ValueError, match="a text of 8 tokens needs 4 blocks of 2, the pool has 3"):
        engine.submit([1, 2, 3], max_new_tokens=5)
    with pytest.raises(ValueError, match="at least one token"):
        engine.submit([], max_new_tokens=5)
    text = [token for step in engine.run() for token in step.tokens[number]]
    assert text == alone(Asked((1, 2), 3, 0))


def test_nobody_waits_beyond_a_deadline() -> None:
    engine = Engine(MODEL, blocks=8, size=4)
    late = engine.submit([1, 2, 3], max_new_tokens=9, deadline=3)
    other = engine.submit([4], max_new_tokens=4)
    steps = list(engine.run())
    assert sum(len(step.tokens.get(late, ())) for step in steps) == 2
    assert late in steps[2].ended
    assert sum(len(step.tokens.get(other, ())) for step in steps) == 4


def test_ends_that_a_failed_step_has_seen_are_told_by_the_next() -> None:
    model: Any = Failing()
    engine = Engine(model, blocks=20, size=4)
    late = {engine.submit([1, 2, 3], max_new_tokens=9, deadline=2) for _ in range(2)}
    engine.step()
    other = engine.submit([4, 5], max_new_tokens=6)
    model.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.step()
    engine.cancel(other)
    assert [step.ended for step in engine.run()] == [late]
    assert not engine.busy


def test_a_long_prompt_is_read_within_the_budget() -> None:
    engine = Engine(MODEL, blocks=20, size=4, budget=5)
    writing = engine.submit([1], max_new_tokens=9)
    steps = engine.run()
    next(steps)
    engine.submit([2] * 18, max_new_tokens=1)
    rest = list(steps)
    assert all(sum(step.reads.values()) <= 5 for step in rest)
    assert all(writing in step.tokens for step in rest[:5])  # it did not wait for the prompt


def test_requests_that_begin_alike_read_their_beginning_once() -> None:
    opening = list(range(8)) * 2
    engine = Engine(MODEL, blocks=40, size=4)
    first = engine.submit([*opening, 1], max_new_tokens=2)
    list(engine.run())
    second = engine.submit([*opening, 2, 3], max_new_tokens=2)
    steps = list(engine.run())
    assert steps[0].reads == {second: 2}
    text = [token for step in steps for token in step.tokens[second]]
    assert text == alone(Asked((*opening, 2, 3), 2, 0))
    assert first != second


def test_of_a_prompt_that_is_known_to_its_end_the_last_block_is_read_again() -> None:
    prompt = tuple(range(8))
    engine = Engine(MODEL, blocks=40, size=4)
    engine.submit(prompt, max_new_tokens=2)
    list(engine.run())
    second = engine.submit(prompt, max_new_tokens=2)
    steps = list(engine.run())
    assert steps[0].reads == {second: 4}
    text = [token for step in steps for token in step.tokens[second]]
    assert text == alone(Asked(prompt, 2, 0))


def test_a_block_is_known_when_its_last_token_was_read_not_when_it_was_written() -> None:
    engine = Engine(MODEL, blocks=40, size=4)
    engine.submit(range(7), max_new_tokens=3)
    known = [len(engine.scheduler.prefixes.held) for _ in engine.run()]
    assert known == [1, 2, 2]  # 7 tokens were read, then 8


def test_a_known_beginning_has_the_request_as_one_more_holder() -> None:
    engine = Engine(MODEL, blocks=40, size=4)
    for _ in range(2):
        engine.submit(range(8), max_new_tokens=3)
        next(engine.run())
        count_holders(engine)


def test_a_draft_that_is_the_model_guesses_right_step_after_step() -> None:
    engine = Engine(MODEL, blocks=40, size=3, drafter=DraftModel(MODEL), guesses=3)
    asked = [Asked((1, 2, 3), 13, 0), Asked((4, 4), 13, 0)]
    served = serve(engine, asked, lambda step: count_holders(engine))
    assert served.texts == dict(enumerate(map(alone, asked)))
    assert len(served.plans) == 4  # one token behind the prompt, then four in each step


def test_guesses_find_room_in_the_smallest_pool() -> None:
    asked = [Asked((1, 2, 3, 1, 2), 9, 0), Asked((4, 4, 4), 9, 0), Asked((5, 5), 9, 0)]
    engine = Engine(MODEL, blocks=9, size=2, drafter=PromptLookup(), guesses=4)
    served = serve(engine, asked, lambda step: count_holders(engine))
    assert any(preempted for _, preempted in served.plans)
    assert served.texts == dict(enumerate(map(alone, asked)))


class Failing:
    """A model whose passes fail when told to."""

    def __init__(self) -> None:
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        return getattr(MODEL, name)

    def hidden(self, tokens: Tensor, cache: Any) -> Tensor:
        found = MODEL.hidden(tokens, cache)
        if self.fails and tokens.shape[1] > 1:
            raise RuntimeError("out of memory")
        return found


def test_nothing_is_lost_when_the_model_fails() -> None:
    model: Any = Failing()
    engine = Engine(model, blocks=20, size=4)
    engine.submit([1, 2, 3], max_new_tokens=6)
    texts: dict[int, list[int]] = {0: [], 1: []}

    def steps(count: int) -> Iterator[ServingStep]:
        run = engine.run()
        return (next(run) for _ in range(count))

    def note(step: ServingStep) -> None:
        for number, tokens in step.tokens.items():
            texts[number] += tokens

    list(map(note, steps(2)))
    engine.submit([4, 5], max_new_tokens=6)
    model.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        next(engine.run())
    count_holders(engine)
    model.fails = False
    list(map(note, engine.run()))
    assert texts == {0: alone(Asked((1, 2, 3), 6, 0)), 1: alone(Asked((4, 5), 6, 0))}


@pytest.mark.parametrize("fails", [False, True])
def test_a_draft_forgets_its_wrong_guesses_and_those_of_a_failed_step(fails: bool) -> None:
    model: Any = Failing()
    draft = DraftModel(early_exit(MODEL, 1))
    engine = Engine(model, blocks=20, size=4, drafter=draft, guesses=3)
    engine.submit([3], max_new_tokens=14)
    written = [engine.step().tokens[0]]
    if fails:
        model.fails = True
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.step()
        model.fails = False
    written += [step.tokens[0] for step in engine.run()]
    single = list(decode_speculative(MODEL, [[3]], drafter=draft, gamma=3, max_new_tokens=14))
    assert written == [step.rows[0].tokens for step in single]
    assert {len(tokens) for tokens in written[:-1]} > {1}  # some guesses were right, not all


def test_an_interrupted_step_leaves_every_request_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(MODEL, blocks=20, size=4)
    asked = [Asked((1, 2, 3), 2, 0), Asked((4, 5), 6, 0)]  # one ends in the step that fails
    seeds = [torch.Generator().manual_seed(b) for b in range(2)]
    for one, seed in zip(asked, seeds, strict=True):
        engine.submit(one.prompt, max_new_tokens=one.more, sampler=Sampler(), generator=seed)
    texts: dict[int, list[int]] = {0: [], 1: []}

    def note(step: ServingStep) -> None:
        for number, tokens in step.tokens.items():
            texts[number] += tokens

    note(engine.step())

    def interrupted(batch: Batch, *more: Any) -> Any:
        if batch.limits == [8]:  # the second request's
            raise KeyboardInterrupt
        return judge(batch, *more)

    with monkeypatch.context() as patch:
        patch.setattr("minillm.serving.request.judge", interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                engine.step()
            count_holders(engine)
    list(map(note, engine.run()))
    for number, one in enumerate(asked):
        alone_seed = [torch.Generator().manual_seed(number)]
        steps = decode_cached(
            MODEL, [one.prompt], max_new_tokens=one.more, sampler=Sampler(), generators=alone_seed
        )
        assert texts[number] == collect(steps)[0]


class Poisoned:
    """A model that makes NaN of all that is read of a text which begins with token 7."""

    def __getattr__(self, name: str) -> Any:
        return getattr(MODEL, name)

    def hidden(self, tokens: Tensor, cache: PagedCache) -> Tensor:
        ill = [b for b, length in enumerate(cache.lengths) if not length and tokens[b, 0] == 7]
        found = MODEL.hidden(tokens, cache)
        for b in ill:
            found[b] = torch.nan
            cache.keys[:, cache.tables[b].blocks] = torch.nan
            cache.values[:, cache.tables[b].blocks] = torch.nan
        return found


def test_a_request_whose_scores_cannot_be_judged_ends_alone() -> None:
    model: Any = Poisoned()
    engine = Engine(model, blocks=8, size=4)
    ill = (7, 3, 5, 6, 2)
    asked = [Asked((1, 2), 9, 0), Asked(ill, 9, 1), Asked((4, 5, 6, 5, 6, 3), 6, 3)]
    asked.append(Asked(ill, 9, 5))  # what was read before is not shared
    failed: dict[int, ValueError] = {}

    def check(step: ServingStep) -> None:
        assert step.failed.keys() <= step.ended
        failed.update(step.failed)
        count_holders(engine)

    served = serve(engine, asked, check)
    assert failed.keys() == {1, 3}
    assert failed[1].__notes__ == ["in request 1"]
    assert served.texts == {0: alone(asked[0]), 1: [], 2: alone(asked[2]), 3: []}
    with pytest.raises(ValueError, match="logits must be finite"):
        list(follow(Engine(model, blocks=8, size=4), [workload.Asked(0, (7,), 3)]))


def test_what_a_failed_request_read_before_is_neither_shared_nor_left_behind() -> None:
    model: Any = Poisoned()
    engine = Engine(model, blocks=8, size=2, budget=4)  # its first chunk is remembered, then judged
    ill = Asked((7, 3, 5, 6, 2), 2, 0)
    failed: list[int] = []
    serve(engine, [ill, ill], lambda step: failed.extend(step.failed))
    assert sorted(failed) == [0, 1]
    assert engine.scheduler.prefixes.held == set()
    assert engine.pool.blocks.free == 8
    assert engine.pool.keys.isfinite().all()
    assert engine.pool.values.isfinite().all()
    asked = [Asked((4, 5, 6, 5, 6, 3, 1, 2), 8, 0)]  # takes all blocks
    assert serve(engine, asked, lambda step: None).texts == {2: alone(asked[0])}


def test_cancelling_gives_every_block_back() -> None:
    engine = Engine(MODEL, blocks=8, size=2, share=False)
    number = engine.submit([1, 2, 3], max_new_tokens=9)
    next(engine.run())
    engine.cancel(number)
    assert engine.pool.blocks.free == 8
    with pytest.raises(ValueError, match="no request 0"):
        engine.cancel(number)
    assert list(engine.run()) == []


def test_a_scheduler_needs_no_model() -> None:
    scheduler = Scheduler(Blocks(6, 4), budget=6, rows=2)
    for number, length in enumerate((9, 3, 2)):
        scheduler.submit(Job(number, [0] * length, longest=length + 4))
    first = scheduler.plan()
    assert [(job.number, count) for job, count in first.reads] == [(0, 6)]
    first.reads[0][0].table.length += 6
    second = scheduler.plan()
    assert [(job.number, count) for job, count in second.reads] == [(0, 3), (1, 3)]


def test_jobs_that_cannot_go_on_are_an_error_and_no_endless_loop() -> None:
    scheduler = Scheduler(Blocks(6, 4), budget=6, rows=2)
    job = Job(0, [0] * 3, longest=9)
    scheduler.submit(job)
    scheduler.plan()
    for length in (3, 5):  # all of the text is said to be read, or more
        job.table.length = length
        with pytest.raises(RuntimeError, match="there are jobs, and none of them can go on"):
            scheduler.plan()
    scheduler.finish(job)
    assert scheduler.plan().reads == ()


def test_a_block_that_others_read_is_not_written() -> None:
    scheduler = Scheduler(Blocks(6, 4), budget=6, rows=2)
    job = Job(0, [0] * 3, longest=9)
    scheduler.submit(job)
    scheduler.plan()
    job.table.length = 2
    scheduler.blocks.share(job.table.blocks[0])
    with pytest.raises(RuntimeError, match="request 0 would write into a block that others read"):
        scheduler.plan()


def test_a_plan_has_taken_the_blocks_for_guesses_too() -> None:
    scheduler = Scheduler(Blocks(9, 2), budget=6, rows=2, ahead=4)
    scheduler.submit(Job(0, [0] * 3, longest=8))
    [(job, count)] = scheduler.plan().reads
    assert (count, len(job.table.blocks)) == (3, 4)  # for 3 tokens and 4 guesses


def test_a_known_beginning_may_have_thousands_of_blocks() -> None:
    blocks = Blocks(3000, 1)
    prefixes = PrefixTree(blocks)
    held = [blocks.take() for _ in range(3000)]
    prefixes.insert(range(3000), held)
    for block in held:
        blocks.release(block)
    assert prefixes.evictable == 3000
    assert prefixes.evict()
    assert prefixes.evictable == 2999


def test_a_draft_that_does_not_fit_leaves_no_request_behind() -> None:
    other = DraftModel(tiny(minillm, vocab_size=MODEL.config.vocab_size + 1))
    engine = Engine(MODEL, blocks=9, size=2, drafter=other, guesses=2)
    with pytest.raises(ValueError, match="vocabulary"):
        engine.submit((1, 2, 3), max_new_tokens=4)
    assert engine.step().held == 0
    assert not engine.scheduler.waiting
