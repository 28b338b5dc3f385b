"""The n-grams that lookahead decoding has met: from a token to what may follow it.

Source: arXiv 2402.02057, section 3.2; the bound for each token is the authors' G.
"""

from collections.abc import Sequence

from minillm.whole import whole

__all__ = ["NGramPool"]


class NGramPool:
    """For each token, the continuations met last, at most `bound` of them, n - 1 tokens each.

    >>> pool = NGramPool(n=3, bound=2)
    >>> for gram in ([1, 2, 3], [1, 4, 5], [1, 2, 3], [1, 6, 7]):
    ...     pool.add(gram)
    >>> pool.guesses(1)  # [4, 5] was not met for the longest time
    [(6, 7), (2, 3)]

    Raises:
        ValueError: n below 2, which leaves nothing to guess; or a bound below 1.
    """

    def __init__(self, n: int, bound: int):
        self.n, self.bound = whole("n", n, least=2), whole("bound", bound, least=1)
        self._behind: dict[int, list[tuple[int, ...]]] = {}

    def add(self, gram: Sequence[int]) -> None:
        """Meet an n-gram.

        Raises:
            ValueError: not n tokens.
        """
        if len(gram) != self.n:
            raise ValueError(f"the pool holds {self.n}-grams, got {len(gram)} tokens")
        key, rest = gram[0], tuple(gram[1:])
        met = [other for other in self._behind.get(key, []) if other != rest]
        self._behind[key] = [*met, rest][-self.bound :]

    def add_text(self, text: Sequence[int]) -> None:
        """Meet all n-grams of a text."""
        for start in range(len(text) - self.n + 1):
            self.add(text[start : start + self.n])

    def guesses(self, token: int) -> list[tuple[int, ...]]:
        """The continuations of a token, the one met last first."""
        return self._behind.get(token, [])[::-1]
