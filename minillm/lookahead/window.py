"""The window of lookahead decoding: Jacobi iterates side by side, each one token ahead of the last.

Column j of the first line stands j places after the newest token. Each further line holds, in the
same column, the token that was chosen after the line before it, one pass later. When all N - 1
lines are there, a pass completes an n-gram in each column, and the oldest line falls away.

Source: arXiv 2402.02057, section 3.1; the growth follows the authors' implementation.
"""

from collections.abc import Sequence

__all__ = ["Window"]


class Window:
    """N - 1 lines of W tokens, once all are there; it starts from one line of W + N - 3."""

    def __init__(self, first: Sequence[int], N: int):
        self._lines, self._N = [list(first)], N  # the first line is read after the newest token

    @staticmethod
    def most(W: int, N: int) -> int:
        """Tokens of the largest window that a pass reads: a narrow one shrinks at last.

        >>> Window.most(W=5, N=4), Window.most(W=1, N=8)
        (15, 16)
        """
        return max(lines * (W + N - 1 - lines) for lines in range(1, N))

    def read(self, newest: int) -> list[list[int]]:
        """The lines of the next pass."""
        return [[newest, *self._lines[0]], *self._lines[1:]]

    def advance(self, read: Sequence[list[int]], chosen: list[int]) -> list[list[int]]:
        """Go on with what was chosen after each column of the last line read.

        Returns the n-grams that are now complete.

        >>> window = Window([2, 3, 4], N=3)  # W = 3
        >>> window.advance(window.read(1), [12, 13, 14, 15])
        []
        >>> window.read(12)
        [[12, 3, 4], [13, 14, 15]]
        >>> window.advance(window.read(12), [24, 25, 26])
        [[12, 13, 24], [3, 14, 25], [4, 15, 26]]
        >>> window.read(13)
        [[13, 14, 15], [24, 25, 26]]
        """
        lines = [*read, chosen]
        if len(lines) < self._N:  # still growing: every line moves on by one place
            self._lines = [lines[0][2:], *(line[1:] for line in lines[1:])]
            return []
        self._lines = [lines[1][1:], *lines[2:]]
        return [list(gram) for gram in zip(*lines, strict=True)]
