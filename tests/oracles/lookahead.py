"""Lookahead decoding by hand: its pass, its mask, its pool."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Tensor

from oracles.kv_cache import prefilled
from oracles.models import Counting, Scripted, Watching, close, ragged_prompts, tiny, tokens_of

__all__ = [
    "Overhearing",
    "Placed",
    "Summing",
    "a_perfect_pool",
    "lookahead_by_hand",
    "lookahead_mask",
    "paths_of_a_pass",
    "pool_of",
    "sees_by_hand",
]

# Jacobi and lookahead


class Overhearing(Watching):
    """A model that takes masks, and remembers each pass: what the cache held, and the tokens."""

    def __init__(self, model):
        super().__init__(model)
        self.heard: list[tuple[list[int], Tensor]] = []

    def hidden(self, tokens: Tensor, cache, *, positions=None, mask=None) -> Tensor:
        self.cache, self.passes = cache, self.passes + 1
        self.heard.append((list(cache.lengths), tokens))
        return self.model.hidden(tokens, cache, positions=positions, mask=mask)


class Summing(Counting):
    """As `Counting`, of the tokens that a mask lets see; in the cache, those before the pass."""

    def hidden(self, tokens: Tensor, cache, *, positions=None, mask=None) -> Tensor:
        T, held = tokens.shape[1], torch.tensor(cache.lengths)[:, None]
        new = tokens[:, None, :, None].expand(-1, 1, T, 2).double()
        keys, _ = cache.append(0, new, new)
        past = (keys[:, 0, :, 0] * (torch.arange(keys.shape[2]) < held)).sum(1)
        visible = torch.ones(T, T).tril() if mask is None else mask
        cache.advance(T)
        return (past[:, None, None] + visible.double() @ tokens.double()[..., None]) % 3


class Placed(Scripted):
    """As `Scripted`, at the positions that it is given."""

    def hidden(self, tokens: Tensor, cache, *, positions=None, mask=None) -> Tensor:
        if positions is None:
            return super().hidden(tokens, cache)
        cache.advance(tokens.shape[1])
        return self.script.gather(1, positions)[..., None].double()


def pool_of(lib: ModuleType, grams: Sequence[Sequence[int]], *, learns: bool = True):
    """A pool that starts from these n-grams; it may refuse to meet others."""

    class Pool(lib.lookahead.pool.NGramPool):
        def __init__(self, n: int, bound: int):
            super().__init__(n, bound)
            for gram in grams:
                super().add(gram)

        def add(self, gram) -> None:
            if learns:
                super().add(gram)

    return Pool


def lookahead_by_hand(
    choose, argmax, prompt, W: int, N: int, G: int, first, limit: int, stop
) -> Iterator[tuple]:
    """Lookahead decoding of one row, each path read by itself as a plain text; the reference.

    Of each pass: window, choices behind it, guesses, the best, how much of it is right, new tokens.
    """
    text, window, met = list(prompt), [list(first)], list[tuple[int, ...]]()

    def meet(gram: Sequence[int]) -> None:
        met[:] = [*(other for other in met if other != tuple(gram)), tuple(gram)]

    for i in range(len(text) - N + 1):
        meet(text[i : i + N])
    while True:
        room = limit - len(text)
        behind = [gram[1:room] for gram in met[::-1] if gram[0] == text[-1]][:G]
        guesses = list(dict.fromkeys(gram for gram in behind if gram))
        lines = [[text[-1], *window[0]], *window[1:]]
        chosen = [
            argmax(text + lines[0][1 : j + 1] + [line[j] for line in lines[1:]])[0]
            for j in range(len(lines[-1]))
        ]
        new = list[int]()  # as plain decoding goes on
        while len(new) < min(N, room):
            new += choose(text + new)
        right = [[*map(int.__eq__, guess, new), False].index(False) for guess in guesses]
        accepted = max(right, default=0)
        new = new[: accepted + 1]
        ends = [i for i, x in enumerate(new, 1) if x in stop or i == room]
        new = new[: min(ends, default=len(new))]
        yield lines, chosen, guesses, right.index(accepted) if accepted else None, accepted, new
        if ends:
            return
        whole = [*lines, chosen]
        if len(whole) < N:
            window = [lines[0][2:], *(line[1:] for line in whole[1:])]
        else:
            window = [lines[1][1:], *lines[2:], chosen] if N > 2 else [chosen[1:]]
            for j in range(W):
                meet([line[j] for line in whole])
        for token in new:
            text.append(token)
            if len(text) >= N:
                meet(text[-N:])


def sees_by_hand(me: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Whether one token of a lookahead pass sees another; each is (guess?, line or guess, column).

    Word by word from the description of the mask, and not from the code.
    """
    (guess, line, j), (its_guess, its_line, its_j) = me, other
    if guess:
        if its_guess:
            return its_line == line and its_j <= j  # causal inside its own guess
        return (its_line, its_j) == (0, 0)  # of the window, the current token only
    if its_guess:
        return False
    if its_line == 0 and its_j <= j:
        return True  # line 0: causal; of the others, its columns 0 to j
    return its_j == j and 1 <= its_line <= line  # its own column of lines 1 to its own


def lookahead_mask(lib: ModuleType) -> None:
    """Every cell of the mask, and every position, of every shape that a window passes through."""
    for W, N in product(range(1, 5), range(2, 6)):
        window = lib.lookahead.window.Window(list(range(W + N - 3)), N)
        for _ in range(N):
            lines = window.read(0)
            sizes = tuple(map(len, lines))
            for guesses, length in ((0, 0), (1, 1), (3, N - 1)):
                layout = lib.lookahead.mask.lookahead_layout(sizes, guesses, length)
                cells = [(0, line, j) for line, size in enumerate(sizes) for j in range(size)]
                cells += [(1, index, j) for index in range(guesses) for j in range(length)]
                fields = (layout.guess.int(), layout.line, layout.column)
                assert [*zip(*(field.tolist() for field in fields), strict=True)] == cells
                for t, me in enumerate(cells):
                    assert layout.offset[t] == (1 + me[2] if me[0] else me[1] + me[2])
                    for s, other in enumerate(cells):
                        assert layout.mask[t, s] == sees_by_hand(me, other)
            window.advance(lines, [0] * sizes[-1])


def paths_of_a_pass(lib: ModuleType, seed: int = 0) -> None:
    """Each token of a lookahead pass == the last of a plain text: its past, and nobody else.

    What it does not see changes no bit of its logits.
    """
    Pass, forward = lib.lookahead.reads.Pass, lib.lookahead.reads.forward_passes
    model, prompts = tiny(lib, seed=seed), ragged_prompts(seed)[:3]
    a, b, c = (tokens_of(seed + i, 20).tolist() for i in range(3))
    passes = [
        Pass(prompts[0][5:-1], [a[:4], a[4:7], a[7:10]], [a[10:12], a[12:14]]),
        Pass((), [b[:2], b[2:4]], [b[4:7], b[7:10], b[10:13]]),
        Pass(prompts[2][2:-1], [c[:5]], [c[5:6]]),
    ]
    texts = [prompts[0][:-1], prompts[1], prompts[2][:-1]]
    held = [len(text) - len(row.unread) for text, row in zip(texts, passes, strict=True)]

    def logits(rows: list[int], changed=None) -> Tensor:
        cache, _ = prefilled(lib, model, [texts[b][: held[b]] for b in rows], capacity=60)
        those = [passes[b] for b in rows] if changed is None else [changed]
        return model.head(forward(model, those, cache))

    for rows in ([0], [1], [0, 1, 2], [2, 2]):
        found = logits(rows)
        for i, b in enumerate(rows):
            row, window = passes[b], passes[b].window
            start = len(row.unread)
            paths = [[*window[0][: j + 1]] for j in range(len(window[0]))]
            for line in range(1, len(window)):
                columns = range(len(window[line]))
                paths += [
                    [*window[0][: j + 1], *(window[up][j] for up in range(1, line + 1))]
                    for j in columns
                ]
            paths += [
                [window[0][0], *guess[: k + 1]] for guess in row.guesses for k in range(row.length)
            ]
            for place, path in enumerate(paths, start):
                plain = model(torch.tensor([[*texts[b], *path]]))[0, -1]
                assert close(found[i, place], plain)
    for b in (0, 1):
        row, before = passes[b], logits([b])
        guess_places = range(row.first_guess, len(row.tokens))
        window_places = range(len(row.unread), row.first_guess)
        columns = [(n, j) for n, line in enumerate(row.window) for j in range(len(line))]
        for n, j in columns[1:]:  # all but the newest token
            window = [list(line) for line in row.window]
            window[n][j] = (window[n][j] + 1) % 31
            after = logits([b], row._replace(window=window))
            assert torch.equal(after[0, guess_places], before[0, guess_places])
            assert not torch.equal(after, before)
        for index in range(len(row.guesses)):
            guesses = [list(guess) for guess in row.guesses]
            guesses[index] = [(token + 1) % 31 for token in guesses[index]]
            after = logits([b], row._replace(guesses=guesses))
            others = [
                place for place in guess_places if (place - row.first_guess) // row.length != index
            ]
            assert torch.equal(after[0, window_places], before[0, window_places])
            assert torch.equal(after[0, others], before[0, others])


def a_perfect_pool(lib: ModuleType, seed: int = 0) -> None:
    """A pool that knows the text: all of the best guess is right, N tokens a pass."""
    for N, budget, temperature in product((2, 3, 5), (1, 2, 12, 13), (0, 1.0)):
        model, prompt = tiny(lib, seed=seed), [1, 2, 3]
        sampler = lib.Sampler(temperature)
        options = {"sampler": sampler, "generators": lib.generators(seed, 1)}
        [text] = lib.collect(lib.decode_cached(model, [prompt], max_new_tokens=20, **options))
        whole = prompt + text
        right = [whole[i : i + N] for i in range(len(whole) - N + 1)]
        nearly = [[*gram[:-1], (gram[-1] + 1) % 31] for gram in right]  # met later, tried earlier
        pool = pool_of(lib, right + nearly)
        options["generators"] = lib.generators(seed, 1)
        with patch.object(lib.lookahead.decode, "NGramPool", pool):
            steps = list(
                lib.lookahead.decode.decode_lookahead(
                    model, [prompt], W=3, N=N, G=30, max_new_tokens=budget, **options
                )
            )
        assert lib.collect(iter(steps)) == [text[:budget]]
        assert len(steps) == ceil(budget / N)
        for step in steps[:-1]:
            assert step.rows[0].accepted == N - 1
            assert len(step.rows[0].tokens) == N
