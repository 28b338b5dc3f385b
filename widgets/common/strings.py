"""Every text that the widgets themselves show, in one catalogue.

`say("player.position", unit="step", step=9, steps=48)` returns "step 9 of 48". Texts that
belong to a lesson (titles, captions) come with its data and are not listed here.
"""

from __future__ import annotations

__all__ = ["CATALOGUE", "say", "section", "tagged"]

CATALOGUE: dict[str, str] = {
    # the step player: controls
    "player.name": "Step player",
    "player.Home": "First step (Home)",
    "player.ArrowLeft": "Previous step (left arrow)",
    "player.play": "Play",
    "player.pause": "Pause",
    "player.ArrowRight": "Next step (right arrow)",
    "player.End": "Last step (End)",
    "player.scrub": "Step",
    "player.speed": "Speed",
    "player.rate": "{rate} / s",
    "player.loop": "Loop",
    "player.controls": "Playback",
    "player.legend": "Legend",
    "player.numbers": "Numbers",
    "player.keys": "Space plays, arrows step, Home and End jump. Tab reaches the cells, Enter goes "
    "to the step that wrote one.",
    # the step player: readouts
    "player.position": "{unit} {step} of {steps}",
    "player.short": "{unit} {step} / {steps}",
    "player.empty": "Nothing to show: this run has no steps.",
    "player.written": "written in {unit} {step}",
    "player.blank": "blank",
    "player.from": "comes from “{text}”",
    "player.axis": "{label}: up to {end} {unit}",
    "player.newline": "newline",
    "player.tab": "tab",
    "player.space": "space",
    "player.nothing": "empty",
    # controls of explorers
    "controls.more": "More settings",
    "prompt.text": "prompt",
    "prompt.examples": "example",
    "prompt.own": "your own text",
    "prompt.cut": "Cut: the {part} {most} of its {all} tokens are read.",
    "prompt.first": "first",
    "prompt.last": "last",
    # the model of an explorer
    "model.name": "model",
    "model.help": "A shipped or fetched model's name, a folder or a .gguf file; Enter loads it",
    "model.loading": "Loading {name} …",
    "model.refused": "{why}; the picture still shows {name}.",
    "model.left_out": "Left out, since they know another vocabulary than {name}: {drafters}.",
    "model.no_drafter": "no drafter here knows the vocabulary of {name}",
    "model.no_zeros": "gates that go through {act}, not relu, are never exactly zero: {name}",
    # the site
    "site.course": "How large language models are made fast",
    "site.about": "Lessons on the inference tricks of large language models, on a small, real "
    "Llama. This page holds a recorded run: players, charts and predictions work without a kernel, "
    "explorers with one control at a time.",
    "site.contents": "Lessons",
    "site.search": "Search the lessons",
    "site.none": "Nothing found.",
    "site.theme": "Light or dark",
    "site.slides": "Slides",
    "site.keys": "Arrows turn slides, n shows the notes, c the code; Escape leaves a player.",
    "site.skip": "Show without a prediction",
    "site.gate": "What follows holds the answer. Lock your prediction to go on.",
    "site.code": "Code",
    "site.plain": "This page shows its pictures; its players need JavaScript.",
    "site.off": "off",
    "site.on": "on",
    # tags of numbers
    "tag.measured": "measured",
    "tag.recorded": "recorded",
    "tag.computed": "computed",
    "tag.cited": "cited",
    # token states, as the legend names them
    "state.computed": "computed now",
    "state.again": "computed again",
    "state.read": "read from the cache",
    "state.free": "free slot",
    "state.accepted": "accepted",
    "state.rejected": "rejected",
    "state.resampled": "resampled from the residual",
    "state.bonus": "bonus token",
    "state.unchecked": "never checked",
    "state.guess": "guess",
    "state.early": "right, not yet certain",
    "state.settling": "settles in this pass",
    "state.settled": "settled",
    "state.kept": "chosen in an earlier pass",
    "state.looking": "looks",
    "state.visible": "visible",
    "state.held": "held by one request",
    "state.shared": "shared by several",
    "state.remembered": "known beginning, held by nobody else",
    "state.wasted": "computed and thrown away",
    "state.masked": "masked",
    "state.shut": "shut",
    # predict, lock, reveal
    "film.after": "Continues “{prompt}”.",
    "predict.kicker": "Predict before you measure",
    "predict.slider": "Your prediction, slider",
    "predict.log": "logarithmic scale",
    "predict.field": "Your prediction, number",
    "predict.range": "Give a number from {low} to {high}.",
    "predict.lock": "Lock it in",
    "predict.hint": "Choose, then lock. Nothing below is spoiled until you run it.",
    "predict.ready": "Your prediction: {said}. Lock it to commit.",
    "predict.locked": "Locked: {said}. Run the next cells to find out.",
    "predict.again": "Start over",
    "predict.poll": "Audience poll",
    "predict.pollhint": "How many raised a hand for each?",
    "predict.votes": "Votes for {bin}",
    "predict.ask": "Ask the hall",
    "predict.close": "Close the vote",
    "predict.reopen": "Ask the hall again",
    "predict.invite": "Vote at {address}",
    "predict.phones": "Votes: {votes}",
    "predict.closed": "Votes: {votes}. The vote is closed.",
    "predict.code": "QR code of {address}",
    "predict.open": "(not predicted yet)",
    "predict.said": "(locked: {said})",
    # the page on which a hall votes
    "hall.title": "Vote",
    "hall.none": "No question is asked now.",
    "hall.choose": "Your prediction",
    "hall.vote": "Vote",
    "hall.next": "Look for the next question",
    "hall.voted": "You voted: {choice}.",
    "hall.closed": "The vote is closed.",
    "hall.late": "This vote was not counted: the question is closed or has changed.",
    "hall.cookie": "This vote was not counted: your browser refused the cookie. Vote again.",
    # reveal
    "reveal.none": "no prediction",
    "reveal.you": "you said",
    "reveal.times": "times off",
    "reveal.off": "off",
    "reveal.spot": "within 5 %",
    "reveal.right": "right",
    "reveal.other": "not what you said",
    "reveal.unsaid": "no prediction; {tag} {truth}",
    "reveal.said": "you said {said}, {tag} {truth}: {error}",
    "reveal.poll": "Audience: {votes} of {total} said {bin}, where the answer lies.",
    "reveal.here": "(the answer)",
    # marks of statements
    "mark.accepted": "holds",
    "mark.early": "nearly",
    "mark.rejected": "does not hold",
    "mark.unchecked": "open",
    # exercises
    "exercise.heading": "Exercise {exercise}",
    "exercise.kind": "This answer is not of the kind that was asked for ({error}).",
    "exercise.open": "not answered yet",
    "exercise.hint": "Hint {i} of {n}",
    "exercise.hints": "Hints",
    "exercise.raised": "Your code raised {error}{where}.",
    "exercise.line": " in line {line}: {source}",
    "exercise.slow": "Your code was still running after {seconds:g} seconds, so it was stopped.",
    "exercise.loop": "Is there a loop that never ends?",
    # the table of findings
    "findings.heading": "Findings so far",
    "findings.finding": "finding",
    "findings.lesson": "lesson",
    "findings.predicted": "predicted",
    "findings.measured": "measured",
    "findings.holds": "holds?",
    # exactness meter
    "meter.heading": "Exactness",
    "meter.tokens": "identical on this run: all {tokens} tokens",
    "meter.rounding": "equal within rounding; first different token: number {first}",
    "meter.margin": "there the two best tokens are less than {margin} apart",
    "meter.different": "tokens differ: first at number {first}{row}",
    "meter.lengths": "one run ends after {first} tokens{row}, the other goes on",
    "meter.row": " of row {row}",
    "meter.empty": "nothing to compare: these runs have no tokens",
    "meter.logits": "logits equal within {bound}",
    "meter.logits_off": "logits differ by more than {bound}",
    "meter.cache": "the cache equals a fresh prefill within {bound} ({tokens} tokens)",
    "meter.cache_off": "the cache differs from a fresh prefill by more than {bound}",
    "meter.cache_none": "this decoder keeps no cache",
    "meter.live": "largest difference on this run: {difference}",
    "meter.live_margin": "margin there: {margin}",
    # the hunt for defects of guess and verify
    "hunt.heading": "Suspect {suspect}",
    "hunt.greedy": "greedy: its text is that of plain decoding",
    "hunt.greedy_off": "greedy: its text is not that of plain decoding",
    "hunt.first": "sampling, one guess: the first token has the target's distribution",
    "hunt.first_off": "sampling, one guess: the first token has another distribution",
    "hunt.start": "a toy, two guesses: the first token has the target's distribution",
    "hunt.start_off": "a toy, two guesses: the first token has another distribution",
    "hunt.pairs": "a toy, two guesses: three tokens together have the target's distribution",
    "hunt.pairs_off": "a toy, two guesses: three tokens together have another distribution",
    "hunt.cache": "the cache equals a fresh prefill",
    "hunt.cache_off": "the cache differs from a fresh prefill",
    "hunt.stop": "the text ends at a stop token",
    "hunt.stop_off": "the text runs past a stop token",
    "hunt.found": "Found: {name}. {effect}",
    "hunt.twin": "No meter tells the two apart, but this one is: {name}. {effect}",
    "hunt.other": "Not {name}: there the meters would say “{symptom}”.",
    "hunt.innocent": "Right: nothing is wrong with this one, it is the library's own code.",
    "hunt.nothing": "the library's own code",
    "hunt.patch": "The patch, in minillm/{module}.py ({seen})",
    # source view
    "source.heading": "{name} in {file}",
    "source.lines": "{count} lines",
    "source.key": "key line",
    # charts of what was measured
    "chart.undecided": "Not decided on this machine now: {what}",
    "chart.doubt": "Not decided on this machine now: the intervals overlap.",
    "chart.noise": "below 1, which is noise: more work takes no less time",
    # series of bars and times
    "series.trick": "with the trick",
    "series.baseline": "baseline",
    "series.draft": "draft",
    "series.verify": "verify",
    "series.rest": "rest of a round",
    "series.target": "target p",
    "series.proposal": "draft q",
    "series.overlap": "min(p, q)",
    "series.residual": "residual",
    "series.prefill": "prefill: reads its prompt",
    "series.decode": "decode: reads one token, writes one",
    "series.waiting": "waits",
    "series.nearest": "round to nearest",
    "series.gptq": "GPTQ",
}


def tagged(text: str) -> list[str]:
    """The tags that a text gives its numbers, each once: it says "(measured)" behind them.

    >>> tagged("9 tokens (computed) in 4 ms (measured)")
    ['measured', 'computed']
    """
    return [name for name, word in section("tag").items() if f"({word})" in text]


def say(key: str, **values: object) -> str:
    """The text of `key` with its `{names}` filled in; an unknown key is a KeyError."""
    return CATALOGUE[key].format(**values)


def section(prefix: str) -> dict[str, str]:
    """All texts under `prefix.`, keyed by the rest of their name: what the browser receives."""
    start = prefix + "."
    return {key.removeprefix(start): v for key, v in CATALOGUE.items() if key.startswith(start)}
