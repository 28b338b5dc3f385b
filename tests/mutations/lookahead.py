"""Bugs of lesson `lookahead`."""

from mutations.mutation import Mutation

__all__ = ["BUGS"]

BUGS = [
    Mutation(
        "a full match of a guess is cut by one (LookaheadDecoding)",
        "lookahead.verification",
        "        if agreed >= len(places):\n",
        "        agreed = min(agreed, len(guess) - 1)\n        if agreed >= len(places):\n",
        "a_perfect_pool",
    ),
    Mutation(
        "history of another guess than the committed one (LookaheadDecoding, line 1175)",
        "lookahead.decode",
        "        self._pool.add_text(self._batch.texts[self._b][-(taken + self._pool.n - 1) :])\n",
        "        text = self._batch.texts[self._b]\n"
        "        hit = guesses[(len(path) - 1) % len(guesses)] if best is not None else path\n"
        "        history = [*text[: len(text) - taken], *hit][: len(text)]\n"
        "        self._pool.add_text(history[-(taken + self._pool.n - 1) :])\n",
        "parallel_by_hand",
    ),
    Mutation(
        "the window sees guesses (constructed)",
        "lookahead.mask",
        "~guess[me] & ~guess[other] & (before | own_column)",
        "~guess[me] & (before | own_column)",
        "paths_of_a_pass",
    ),
    Mutation(
        "guesses see the window's first line (constructed)",
        "lookahead.mask",
        "(line[other] == 0) & (column[other] == 0)",
        "(line[other] == 0)",
        "paths_of_a_pass",
    ),
    Mutation(
        "a guess sees the guesses before it (constructed)",
        "lookahead.mask",
        "(line[other] == line[me]) & (column[other] <= column[me])",
        "(line[other] <= line[me]) & (column[other] <= column[me])",
        "lookahead_mask",
    ),
    Mutation(
        "a line of the window sees the columns before its own (constructed)",
        "lookahead.mask",
        "own_column = (column[other] == column[me])",
        "own_column = (column[other] <= column[me])",
        "lookahead_mask",
    ),
    Mutation(
        "guesses stand one place too early (constructed)",
        "lookahead.mask",
        "torch.where(guess, 1 + column, line + column)",
        "torch.where(guess, column, line + column)",
        "paths_of_a_pass",
    ),
    Mutation(
        "all lines of the window stand where the first does (constructed)",
        "lookahead.mask",
        "torch.where(guess, 1 + column, line + column)",
        "torch.where(guess, 1 + column, column)",
        "paths_of_a_pass",
    ),
    Mutation(
        "padding of short rows at the front (constructed)",
        "lookahead.reads",
        "[[*row, *[0] * (T - len(row))] for row in rows]",
        "[[*[0] * (T - len(row)), *row] for row in rows]",
        "paths_of_a_pass",
    ),
    Mutation(
        "the first guess is kept, not the best (constructed)",
        "lookahead.reads",
        "self.first_guess + self.length * (best or 0)",
        "self.first_guess",
        "parallel_caches",
    ),
    Mutation(
        "the guessed token behind the accepted ones is kept (constructed)",
        "lookahead.reads",
        "*range(start, start + accepted)]",
        "*range(start, min(start + accepted + 1, start + self.length))]",
        "parallel_caches",
    ),
    Mutation(
        "the first guess with a right token is taken, not the longest (constructed)",
        "lookahead.verification",
        "if agreed >= len(places):",
        "if best is None and agreed >= len(places):",
        "a_perfect_pool",
    ),
    Mutation(
        "the number of a place is that of the place before (constructed)",
        "lookahead.decode",
        "[*range(1, 1 + length)]",
        "[*range(length)]",
        "parallel_law",
    ),
    Mutation(
        "guesses beyond the budget in a pass (constructed)",
        "lookahead.decode",
        "guess[: room - 1] for",
        "guess for",
        "parallel_by_hand",
    ),
    Mutation(
        "the prompt is read in a pass that is not counted (constructed)",
        "lookahead.decode",
        "            hidden = forward_passes(model, passes, cache)  # (B, T, C)\n",
        "            if forwards == 1:\n"
        "                prompts = [Pass(window=[read.unread]) for read in passes]\n"
        "                forward_passes(model, prompts, cache)\n"
        "                cache.truncate([len(read.unread) for read in passes])\n"
        "                passes = [read._replace(unread=()) for read in passes]\n"
        "            hidden = forward_passes(model, passes, cache)\n",
        "parallel_agrees",
    ),
    Mutation(
        "the window's new first line keeps what the newest token replaces (constructed)",
        "lookahead.window",
        "self._lines = [lines[1][1:], *lines[2:]]",
        "self._lines = [lines[1][:-1], *lines[2:]]",
        "parallel_by_hand",
    ),
    Mutation(
        "n-grams without their first token, with what was chosen twice (constructed)",
        "lookahead.window",
        "zip(*lines, strict=True)",
        "zip(*lines[1:], lines[-1], strict=True)",
        "parallel_by_hand",
    ),
    Mutation(
        "the pool forgets what was met first, met again or not (constructed)",
        "lookahead.pool",
        "if other != rest]\n        self._behind[key] = [*met, rest][-self.bound :]",
        "]\n        if rest not in met:\n"
        "            self._behind[key] = [*met, rest][-self.bound :]",
        "parallel_by_hand",
    ),
]
