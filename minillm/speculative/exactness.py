"""The exact law of what guess and verify emits, found by asking the verifier itself.

A sampler is a function of uniforms, and its answer is the same on whole cells of them: between two
neighbouring ratios p/q, between two neighbouring sums of a distribution. One call at the midpoint
of each cell, weighted with the cell's size, gives the law of the answers: no sample, no luck. The
code in question is an argument, so that faulty code can be asked as well.

Dimensions: V vocabulary, gamma guesses of a round.

Source: arXiv 2211.17192, appendix A.1, proves what is found here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise, product
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.config import ModelConfig
from minillm.sampling import Sampler
from minillm.speculative.drafters import Drafter
from minillm.whole import whole

__all__ = [
    "Law",
    "Text",
    "first_token_law",
    "joint_law",
    "proposal_law",
    "text_law",
    "toy_draft",
    "toy_target",
]

Verify = Callable[
    [Tensor, Tensor, Tensor, Tensor], tuple[int, int]
]  # minillm.speculative.verification.verify
Text = tuple[int, ...]
Law = Callable[[Text], Sequence[Fraction]]  # the distribution of the token behind a text


def first_token_law(
    verify: Verify,
    p: Float[Tensor, "2 V"],
    q: Float[Tensor, "1 V"],
    drawn: Float[Tensor, " V"] | None = None,
) -> Float[Tensor, " V"]:
    """The law of the first token that a round of one guess emits; it should be p[0].

    The token added after a rejection is looked at behind one rejected guess: it must not depend
    on which.

    Args:
        verify: as `minillm.speculative.verification.verify`.
        p: the target's distribution at the guess, and one behind it.
        q: what the drafter says that it draws the guess from.
        drawn: what it does draw it from (`proposal_law`); by default q.
    """

    def ask(guess: int, *u: float) -> tuple[int, int]:
        return verify(p, q, torch.tensor([guess]), torch.tensor(u, dtype=torch.float64))

    law, rejected = [0.0] * p.shape[1], dict[tuple[int, float], float]()
    ratios = (p[0] / q[0]).tolist()
    for guess, chance in enumerate((q[0] if drawn is None else drawn).tolist()):
        if chance == 0:
            continue
        for u, size in _cells([ratios[guess]]):
            accepted, _ = ask(guess, u, 0.5)
            if accepted:
                law[guess] += chance * size
            else:
                rejected[guess, u] = chance * size
    if rejected:
        likeliest, chance = max(rejected, key=rejected.__getitem__), sum(rejected.values())
        for last, size in _cells([*_sums(p[0].tolist(), q[0].tolist()), *_sums(p[1].tolist())]):
            _, token = ask(*likeliest, last)
            law[token] += chance * size
    return torch.tensor(law, dtype=torch.float64)


def joint_law(verify: Verify, p: Law, q: Law, gamma: int) -> dict[Text, Fraction]:
    """The law of gamma + 1 tokens: those of one round, then the target's own; `text_law` of p.

    All guesses, and all cells of all uniforms, with exact arithmetic: meant for toy laws such as
    `toy_target` and `toy_draft`, of few tokens and few different sums and ratios.
    """
    emitted, gamma = defaultdict[Text, Fraction](Fraction), whole("gamma", gamma, least=1)
    for guesses, chance in text_law(q, gamma).items():
        P = [p(guesses[:i]) for i in range(gamma + 1)]  # at each guess and behind the last
        Q = [q(guesses[:i]) for i in range(gamma)]
        cuts = [P[i][guess] / Q[i][guess] for i, guess in enumerate(guesses)]
        for laws in zip(P, [*Q, ()], strict=True):
            cuts += _sums(*laws)
        given = _tensor(P), _tensor(Q), torch.tensor(guesses)
        for cells in product(_cells(cuts), repeat=gamma + 1):
            u, sizes = zip(*cells, strict=True)
            accepted, token = verify(*given, _tensor(u))
            emitted[*guesses[:accepted], token] += chance * prod(sizes)
    law = defaultdict[Text, Fraction](Fraction)
    for text, chance in emitted.items():
        for longer, rest in text_law(p, gamma + 1 - len(text), text).items():
            law[longer] += chance * rest
    return dict(law)


def text_law(law: Law, n: int, start: Text = ()) -> dict[Text, Fraction]:
    """The law of the next n tokens behind a text, which the texts given here begin with."""
    texts = {start: Fraction(1)}
    for _ in range(whole("n", n)):
        texts = {
            (*text, token): chance * more
            for text, chance in texts.items()
            for token, more in enumerate(law(text))
            if more
        }
    return texts


def proposal_law(
    drafter: Drafter, target: ModelConfig, text: Sequence[int], sampler: Sampler
) -> tuple[Float[Tensor, " V"], Float[Tensor, " V"]]:
    """The law of a drafter's first guess behind a text, and the q that it says it has.

    Raises:
        ValueError: it has no guess.
    """
    drafting = drafter.start(target, 1, len(text) + 1)

    def propose(u: float) -> tuple[int, Tensor]:
        [proposal] = drafting.propose([text], [1], sampler, [torch.tensor([u]).double()])
        drafting.settle([text])
        if not proposal.guesses:
            raise ValueError(f"the drafter has no guess behind {list(text)}")
        return proposal.guesses[0], proposal.q[0]

    with torch.inference_mode():
        _, q = propose(0.5)
        law = [0.0] * len(q)
        for u, size in _cells(_sums(q.tolist())):
            guess, _ = propose(u)
            law[guess] += size
    return torch.tensor(law, dtype=torch.float64), q


def toy_target(text: Text) -> list[Fraction]:
    """A distribution of three tokens, in quarters, that depends on the whole text."""
    return [Fraction(n, 4) for n in ((1, 2, 1), (2, 2, 0), (3, 0, 1))[sum(text) % 3]]


def toy_draft(text: Text) -> list[Fraction]:
    """What a draft of `toy_target` might believe."""
    return [Fraction(n, 4) for n in ((2, 1, 1), (1, 1, 2), (2, 2, 0))[sum(text) % 3]]


def _sums(p: Sequence[Any], q: Sequence[Any] = ()) -> list[Any]:
    """Where the sums of p, and of what it has more than q, cut a uniform that draws a token."""
    more = [max(a - b, 0) for a, b in zip(p, q, strict=False)]
    total = sum(more) or 1
    return [*accumulate(p), *accumulate(x / total for x in more)]


def _cells(cuts: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Midpoint and size of each part of (0, 1) between neighbouring cuts."""
    edges = sorted({0, 1, *(cut for cut in cuts if 0 < cut < 1)})
    return [((a + b) / 2, b - a) for a, b in pairwise(edges)]


def _tensor(numbers: Sequence[Any]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)
