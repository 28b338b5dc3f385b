"""How a question and its outcome look: HTML for the live view, SVG and text for the rest.

The SVG of an outcome names the question and its answer in attributes, for `spoilers` to read; it is
part of what nbval compares, so the answer stands there with the digits that are shown.
"""

from __future__ import annotations

from html import escape
from xml.sax.saxutils import quoteattr

from widgets.common.card import OPEN, RIGHT, WRONG, Statement, tag
from widgets.common.drawing.page import PAD, WIDTH, Page
from widgets.common.predict.question import Answer, Outcome, Question, number, with_unit
from widgets.common.strings import say
from widgets.common.theme import LIGHT, SERIES, STATES

__all__ = ["html", "picture", "question_picture", "summary"]


def summary(outcome: Outcome) -> str:
    """One line, and one more for the audience if it voted."""
    return "\n".join(filter(None, (outcome.sentence, outcome.poll)))


def html(outcome: Outcome) -> str:
    """The question, large numbers, the scale with both answers, and the audience's votes."""
    labels = (say("reveal.you"), tag(outcome.tag), outcome.error[1])
    numbers = "".join(
        f"<div><b>{escape(value)}</b><span>{label}</span></div>"
        for value, label in zip(_values(outcome), labels, strict=True)
        if value
    )
    return (
        f'<p class="card-kicker">{escape(outcome.question.text)}</p>'
        f'<div class="card-numbers">{numbers}</div>'
        f"{_judged(outcome)}{_scale(outcome)}{_votes(outcome)}"
    )


def _values(outcome: Outcome) -> tuple[str, str, str]:
    said = outcome.said_text if outcome.said is not None else ""
    return said, outcome.truth_text, outcome.error[0]


def _judged(outcome: Outcome) -> str:
    """What stands instead of an error factor: right or not, or that nothing was predicted."""
    value, label = outcome.error
    if value:
        return ""
    state = OPEN if outcome.said is None else RIGHT if outcome.right else WRONG
    said = Statement(state, label or outcome.said_text)
    return f'<ul class="card-said">{said.html()}</ul>'


def _scale(outcome: Outcome) -> str:
    question, said, truth = outcome.question, outcome.said, outcome.truth
    if said is None or isinstance(said, str) or isinstance(truth, str):
        return ""
    you, true = question.where(said), question.where(truth)
    low, high = sorted((you, true))
    marks = "".join(
        f'<span class="card-at {name}{_side(at)}" style="left:{at:.1%}">{escape(text)}</span>'
        for name, at, text in (
            ("card-true", true, f"{say('tag.' + outcome.tag)} {outcome.truth_text}"),
            ("card-you", you, f"{say('reveal.you')} {outcome.said_text}"),
        )
    )
    span = f'<i class="card-span" style="left:{low:.1%};width:{high - low:.1%}"></i>'
    return f'<div class="card-scale" aria-hidden="true">{span}{marks}</div>'


def _side(at: float) -> str:
    """A label at the end of the scale stands inside of it."""
    return " card-left" if at < 0.06 else " card-right" if at > 0.94 else ""


def _votes(outcome: Outcome) -> str:
    if not outcome.poll:
        return ""
    most, here = max(outcome.counts), outcome.question.bin_of(outcome.truth)
    rows = "".join(
        f'<tr{" class=card-here" if i == here else ""}><th scope="row">{escape(label)}</th>'
        f'<td class="card-wide"><i class="card-bar" style="width:{votes / most:.1%}"></i></td>'
        f"<td>{votes}{' ' + escape(say('reveal.here')) if i == here else ''}</td></tr>"
        for i, (label, votes) in enumerate(
            zip(outcome.question.bins(), outcome.counts, strict=True)
        )
    )
    caption = f"<caption>{escape(outcome.poll)}</caption>"
    return f'<table class="card-poll">{caption}<tbody>{rows}</tbody></table>'


def question_picture(question: Question, said: Answer | None) -> str:
    """The question as SVG, with its scale or its choices, and what was locked."""
    page = Page(dark=False)
    page.text(PAD, 26, say("predict.kicker"), 13, muted=True)
    page.y = 30
    page.paragraph(question.text)
    page.y += 14
    if question.choices:
        for choice in question.choices:
            mark = "computed" if choice == said else "free"
            page.rect(PAD, page.y, 14, 14, STATES[mark].light.fill, 7, stroke=LIGHT.muted)
            page.text(PAD + 24, page.y + 12, choice)
            page.y += 24
    else:
        _axis(page, question)
        if isinstance(said, float | int):
            _mark(page, question, said, STATES["resampled"].light.line)
        page.y += 34
    state = (
        say("predict.open")
        if said is None
        else say("predict.said", said=with_unit(said, question.unit))
    )
    page.text(PAD, page.y + 14, state, muted=True)
    page.y += 14
    return page.document(f"{question.text} {state}")


def picture(outcome: Outcome) -> str:
    """The outcome as SVG."""
    page, x = Page(dark=False), PAD
    page.y = 6
    page.paragraph(outcome.question.text, muted=True)
    page.y += 34
    labels = say("reveal.you"), say(f"tag.{outcome.tag}"), outcome.error[1]
    for value, label in zip(_values(outcome), labels, strict=True):
        room = max(15 * len(value), 8 * len(label)) + 36
        if x > PAD and x + room > WIDTH:
            x, page.y = PAD, page.y + 54
        if value:
            page.text(x, page.y, value, 24, bold=True)
            if label == labels[1]:
                page.tag(x, page.y + 20, outcome.tag)
            else:
                page.text(x, page.y + 20, label, 13, muted=True)
            x += room
    page.y += 24
    if not outcome.error[0]:
        page.paragraph(outcome.error[1] or outcome.said_text, muted=True)
    if not outcome.question.choices and not isinstance(outcome.truth, str):
        page.y += 14
        _axis(page, outcome.question)
        if isinstance(outcome.said, float | int):
            _mark(page, outcome.question, outcome.said, STATES["resampled"].light.line)
        _mark(page, outcome.question, outcome.truth, LIGHT.accent)
        page.y += 28
    if outcome.poll:
        _bars(page, outcome)
    drawing = page.document(summary(outcome).replace("\n", "; "))
    return drawing.replace("<svg ", f"<svg {_hidden(outcome)} ", 1)


def _hidden(outcome: Outcome) -> str:
    question = outcome.question
    parts = {"key": question.key, "answer": outcome.truth_bare, "unit": question.unit}
    return " ".join(f"data-{name}={quoteattr(text)}" for name, text in parts.items())


def _axis(page: Page, question: Question) -> None:
    page.rect(PAD, page.y + 4, WIDTH - 2 * PAD, 6, LIGHT.line, 3)
    page.text(PAD, page.y + 28, number(question.low), 12, muted=True)
    high = with_unit(question.high, question.unit)
    page.text(WIDTH - PAD, page.y + 28, high, 12, anchor="end", muted=True)


def _mark(page: Page, question: Question, value: float, colour: str) -> None:
    x = PAD + round(question.where(value) * (WIDTH - 2 * PAD - 14))
    page.rect(x, page.y, 14, 14, colour, 7)


def _bars(page: Page, outcome: Outcome) -> None:
    page.y += 6
    page.paragraph(outcome.poll, muted=True)
    page.y += 10
    here, most = outcome.question.bin_of(outcome.truth), max(outcome.counts)
    for i, (label, votes) in enumerate(zip(outcome.question.bins(), outcome.counts, strict=True)):
        series = SERIES["trick" if i == here else "baseline"]
        page.text(PAD, page.y + 14, label, 13, bold=i == here)
        page.rect(PAD + 240, page.y, max(2, round(560 * votes / most)), 18, series.light, 3)
        page.text(WIDTH - PAD, page.y + 14, str(votes), 13, anchor="end", bold=i == here)
        page.y += 24
