"""The hunt for defects: seven faulty samplers and one that is right, under the lesson's meters.

`Meters.examine` runs one of `minillm.speculative.bug_gallery` and says which meters see it.
`BugHunt` shows what the meters say of a suspect; the reader names the defect.

Dimensions: gamma guesses of a round, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from minillm import Sampler, Transformer, collect, decode_cached
from minillm.speculative.bug_gallery import GALLERY, Bug, library, patched
from minillm.speculative.decode import SpeculativeStep
from minillm.speculative.exactness import (
    Text,
    first_token_law,
    joint_law,
    proposal_law,
    text_law,
    toy_draft,
    toy_target,
)
from widgets.common.card import CLOSE, RIGHT, WRONG, Note, Statement
from widgets.common.meter import measure
from widgets.common.still import Pictured
from widgets.common.strings import say

__all__ = ["BugHunt", "Meters", "Symptoms"]

GAMMA = 2
SAMPLER = Sampler(top_k=8)  # few enough tokens to ask the draft at every cell of its number
_BOUND = 1e-10
_ORDER = (4, 1, 6, None, 2, 0, 5, 3)  # of the gallery; None is the library's own code
_OPEN, _NOTHING = -1, -2  # no diagnosis yet; that nothing is wrong


@dataclass(frozen=True)
class Symptoms:
    """What holds of a sampler, by the meters.

    Attributes:
        greedy: its greedy text is that of plain decoding.
        first: the first token of a round has the target's law; exact, from the real p and q.
        start: so has the first of a round of two guesses; exact, on toy laws.
        pairs: and three tokens together; exact, on toy laws.
        cache: its cache equals a fresh prefill.
        stop: its text ends at a stop token in the middle of a round.
    """

    greedy: bool
    first: bool
    start: bool
    pairs: bool
    cache: bool
    stop: bool

    @property
    def exact(self) -> bool:
        return all(getattr(self, field.name) for field in fields(self))


class Meters:
    """The meters of the lesson, ready to be held to any sampler.

    Args:
        model, draft: readable, in float64.
        prompts: what texts may begin with. The first one is taken whose greedy text has a kept
            guess that may serve as a stop token, and a rejected one.
        new: tokens of a text.

    Raises:
        ValueError: no such prompt.
    """

    def __init__(
        self,
        model: Transformer,
        draft: Transformer,
        prompts: Iterable[Sequence[int]],
        new: int = 16,
    ):
        self._model, self._draft, self._new = model, draft, new
        self._prompt, self._stop = self._choose(prompts)
        self._plain = list(decode_cached(model, [self._prompt], max_new_tokens=new))
        self.examine = cache(self._examine)

    def _choose(self, prompts: Iterable[Sequence[int]]) -> tuple[list[int], int]:
        """The prompt, and the stop token."""
        for prompt in prompts:
            rows = [step.rows[0] for step in self._run(library())([list(prompt)])]
            stop = _met_as_guess([row.tokens for row in rows])
            if stop is not None and any(row.accepted < len(row.guesses) for row in rows):
                return list(prompt), stop
        raise ValueError(f"no text of {self._new} tokens has both a kept guess and a rejected one")

    @torch.inference_mode()
    def _examine(self, bug: Bug | None) -> Symptoms:
        """A patched copy of the library under all meters; without a bug, the library itself."""
        suspect = patched(bug) if bug else library()
        run = self._run(suspect)
        greedy = measure(lambda _: iter(self._plain), run, [self._prompt], cache_of=self._model)
        [ended] = collect(run([self._prompt], stop=[self._stop]))
        p, q, drawn = self._laws(suspect)
        first = first_token_law(suspect.verify, p, q[None], drawn)
        joint, true = joint_law(suspect.verify, toy_target, toy_draft, 2), text_law(toy_target, 3)
        return Symptoms(
            greedy=greedy.first is None,
            first=float((first - p[0]).abs().max()) < _BOUND,
            start=_beginning(joint) == _beginning(true),
            pairs={text: chance for text, chance in joint.items() if chance} == true,
            cache=greedy.cache is not None and greedy.cache < _BOUND,
            stop=self._stop not in ended[:-1],
        )

    def _run(self, suspect: SimpleNamespace) -> Callable[..., Iterator[SpeculativeStep]]:
        return partial(
            suspect.decode_speculative,
            self._model,
            drafter=suspect.DraftModel(self._draft),
            gamma=GAMMA,
            max_new_tokens=self._new,
        )

    def _laws(self, suspect: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor]:
        """The real p (2, V) and q behind the prompt, and what the suspect draws from.

        Tokens that none of them can bring are left out: there are few others.
        """
        drawn, q = proposal_law(
            suspect.DraftModel(self._draft), self._model.config, self._prompt, SAMPLER
        )
        text = torch.tensor([[*self._prompt, int(q.argmax())]])
        p = SAMPLER.probabilities(self._model(text)[0, -2:])
        possible = (p.sum(0) + q + drawn) > 0
        return p[:, possible], q[possible], drawn[possible]


def _beginning(law: Mapping[Text, Fraction]) -> dict[int, Fraction]:
    """The law of the first token."""
    first: dict[int, Fraction] = {}
    for text, chance in law.items():
        first[text[0]] = first.get(text[0], Fraction(0)) + chance
    return first


def _met_as_guess(rounds: Iterable[Sequence[int]]) -> int | None:
    """A token that a text first holds as a kept guess, with more of its round behind it."""
    seen: set[int] = set()
    for tokens in rounds:
        for i, token in enumerate(tokens):
            if token not in seen and i + 1 < len(tokens):
                return token
            seen.add(token)
    return None


class BugHunt(Pictured, ipywidgets.VBox):
    """What the meters say of a suspect, and whether the reader's diagnosis explains it.

    Args:
        meters: what the suspects are held to.
        suspect: shown first, from 1.
    """

    def __init__(self, meters: Meters, suspect: int = 1):
        self._examine = meters.examine
        names = [(bug.name, index) for index, bug in enumerate(GALLERY)]
        self.suspect = ipywidgets.Dropdown(
            options=range(1, len(_ORDER) + 1), value=suspect, description="suspect"
        )
        self.diagnosis = ipywidgets.Dropdown(
            options=[("what is wrong?", _OPEN), *names, ("nothing", _NOTHING)],
            description="diagnosis",
        )
        note = self._note()
        self.card = note.card()
        self.suspect.observe(self._another, "value")
        self.diagnosis.observe(self._show, "value")
        row = ipywidgets.HBox([self.suspect, self.diagnosis], layout={"flex_flow": "row wrap"})
        super().__init__([row, self.card])
        self.add_class("minillm").add_class("chart")

    def picture(self) -> str:
        return self._note().svg()

    def summary(self) -> str:
        return self._note().text()

    def _another(self, _change: Any) -> None:
        self.diagnosis.value = _OPEN
        self._show()

    def _show(self, _change: Any = None) -> None:
        note = self._note()
        self.card.show(note.html(), picture=note.svg(), summary=note.text())

    def _note(self) -> Note:
        bug = _bug(_ORDER[self.suspect.value - 1])
        found = self._examine(bug)
        statements = [_said(found, field.name) for field in fields(found)]
        folds: tuple[tuple[str, str], ...] = ()
        if self.diagnosis.value != _OPEN:
            said = _bug(None if self.diagnosis.value == _NOTHING else self.diagnosis.value)
            verdict, solved = self._judged(bug, said)
            statements.append(verdict)
            folds = (_told(bug),) if solved and bug else ()
        heading = say("hunt.heading", suspect=self.suspect.value)
        return Note(heading, tuple(statements), folds, tag="computed")

    def _judged(self, bug: Bug | None, said: Bug | None) -> tuple[Statement, bool]:
        """Whether the reader has named the suspect, or one that the meters cannot tell from it."""
        found, expected = self._examine(bug), self._examine(said)
        if said == bug:
            text = (
                say("hunt.found", name=bug.name, effect=bug.effect) if bug else say("hunt.innocent")
            )
            return Statement(RIGHT, text), True
        name = said.name if said else say("hunt.nothing")
        if bug and found == expected:
            return Statement(CLOSE, say("hunt.twin", name=bug.name, effect=bug.effect)), True
        off = next(
            field.name
            for field in fields(found)
            if getattr(found, field.name) != getattr(expected, field.name)
        )
        symptom = _said(expected, off).text
        return Statement(WRONG, say("hunt.other", name=name, symptom=symptom)), False


def _said(found: Symptoms, meter: str) -> Statement:
    """What one meter says."""
    if getattr(found, meter):
        return Statement(RIGHT, say(f"hunt.{meter}"))
    return Statement(WRONG, say(f"hunt.{meter}_off"))


def _bug(index: int | None) -> Bug | None:
    return None if index is None else GALLERY[index]


def _told(bug: Bug) -> tuple[str, str]:
    """What was patched."""
    label = say("hunt.patch", module=bug.module, seen=bug.seen)
    old, new = ("; ".join(map(str.strip, code.strip().splitlines())) for code in (bug.old, bug.new))
    return label, f"{old}  →  {new}"
