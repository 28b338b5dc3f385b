"""How often would a target accept what a draft proposes? Two models along the target's own texts.

Greedy, a proposal is accepted where both models' most probable tokens agree. Sampled, it is
accepted with the probability sum_x min(p(x), q(x)), which is one minus the distance in total
variation of the target's distribution p and the draft's q.

Dimensions: T tokens of a text, V vocabulary.

Source: arXiv 2211.17192, section 3.2 and corollary 3.6.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.decoding import collect, decode_cached, generators
from minillm.sampling import GREEDY, Sampler
from minillm.speculative.decode import SpeculativeStep
from minillm.transformer import Transformer

__all__ = ["Acceptance", "acceptance", "acceptance_by_position"]


@dataclass(frozen=True)
class Acceptance:
    """Shares of proposals that a target accepts from a draft.

    Attributes:
        greedy: positions of the target's greedy text where both arg maxima agree.
        sampled: mean of sum min(p, q) along texts that the target sampled at temperature 1.
        tokens: positions of each kind that were looked at.
    """

    greedy: float
    sampled: float
    tokens: int


@torch.inference_mode()
def acceptance(
    target: Transformer,
    draft: Transformer,
    prompts: Iterable[Sequence[int]],
    *,
    max_new_tokens: int = 128,
    seed: int = 0,
) -> Acceptance:
    """Let the target write from each prompt, and ask both models at each of its new tokens.

    Raises:
        ValueError: models of different vocabularies; or as `decode_cached`.
    """
    if target.config.vocab_size != draft.config.vocab_size:
        raise ValueError(
            f"target and draft must share a vocabulary, they have {target.config.vocab_size} "
            f"and {draft.config.vocab_size} tokens"
        )
    agree, overlap = [], []
    for index, prompt in enumerate(prompts):
        for sampler in (GREEDY, Sampler()):
            source = [] if sampler == GREEDY else generators(seed + index, 1)
            steps = decode_cached(
                target,
                [prompt],
                max_new_tokens=max_new_tokens,
                sampler=sampler,
                generators=source,
            )
            text = [*prompt, *collect(steps)[0]]
            p, q = (_next(model, text, len(prompt)) for model in (target, draft))
            if sampler == GREEDY:
                agree.append((p.argmax(-1) == q.argmax(-1)).double())
            else:
                overlap.append(torch.minimum(p.softmax(-1), q.softmax(-1)).sum(-1))
    greedy = torch.cat(agree)
    return Acceptance(greedy.mean().item(), torch.cat(overlap).mean().item(), len(greedy))


def _next(model: Transformer, text: Sequence[int], start: int) -> Float[Tensor, "T V"]:
    """The model's logits, in float64 on the host, for the tokens of a text from `start` on."""
    tokens = torch.tensor([text[:-1]], device=model.device)
    return model(tokens)[0, start - 1 :].cpu().double()


def acceptance_by_position(rounds: Iterable[SpeculativeStep]) -> list[float]:
    """Of the first guess, the second, ...: how often it was kept where all before it were.

    A guess that was not made counts as not kept. The later, the fewer: the last are noisy.
    """
    rows = [row for step in rounds for row in step.rows if row.tokens]
    most = max((len(row.guesses) for row in rows), default=0)
    kept = [sum(row.accepted >= place for row in rows) for place in range(most + 1)]
    return [now / before for before, now in pairwise(kept) if before]
