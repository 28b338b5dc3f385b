"""Keep or reject guesses so that what comes out has exactly the target's law.

A guess x was drawn from q; the target would have drawn from p. It is kept with the probability
min(1, p(x)/q(x)). At the first that is not, a token is drawn from what p has more than q; if all
are kept, one more from the target's distribution after them. Each kept guess carries min(p, q) of
the law, the residual carries the rest of p: together p, whatever q is. Greedy decoding is the
limit in which p and q have all their mass on one token.

Dimensions: gamma guesses, gamma1 = gamma + 1, V vocabulary.

Sources: arXiv 2211.17192, algorithm 1 and appendix A.1; arXiv 2302.01318, algorithm 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minillm.sampling import pick

__all__ = ["Verdict", "residual", "verify", "verify_greedy"]


class Verdict(NamedTuple):
    """How many guesses are kept, and the token after them."""

    accepted: int
    token: int


def verify(
    p: Float[Tensor, "gamma1 V"],
    q: Float[Tensor, "gamma V"],
    guesses: Int[Tensor, " gamma"],
    u: Float[Tensor, " gamma1"],
) -> Verdict:
    """Keep guesses up to the first rejection, and add one token of the target's.

    Args:
        p: the target's distribution at each guess, and after the last.
        q: what each guess was drawn from.
        guesses: the drawn tokens.
        u: uniforms in [0, 1): one to judge each guess, the last to draw the added token.
    """
    at = guesses[:, None]
    kept = u[:-1] * q.gather(1, at)[:, 0] < p[:-1].gather(1, at)[:, 0]
    accepted = int(kept.cumprod(0).sum())
    last = p[-1] if accepted == len(guesses) else residual(p[accepted], q[accepted])
    return Verdict(accepted, int(pick(last, u[-1])))


def verify_greedy(chosen: Sequence[int], guesses: Sequence[int]) -> Verdict:
    """`verify` in the limit where p and q have all their mass on one token, without writing them.

    Args:
        chosen: the target's choice at each guess, and after the last.
        guesses: the drafter's choices.

    >>> verify_greedy([7, 8, 9], [7, 5])
    Verdict(accepted=1, token=8)
    """
    agreed = [choice == guess for choice, guess in zip(chosen, guesses, strict=False)]
    accepted = [*agreed, False].index(False)
    return Verdict(accepted, chosen[accepted])


def residual(p: Float[Tensor, "*B V"], q: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
    """What p has more than q, normalised; p where the two are equal.

    >>> residual(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    tensor([0., 1.])
    """
    more = (p - q).clamp(min=0)
    total = more.sum(-1, keepdim=True)
    return torch.where(total > 0, more / total, p)
