"""Who may look at whom in the one forward pass of lookahead decoding, and where everyone stands.

The pass reads a window and some guesses. Line 0 of the window is the newest token and what may
follow it; line l continues each column by one more token, chosen l passes after its beginning. A
guess continues the newest token. Everyone sees the cache. Within the pass:

- a token of line 0 sees line 0 up to itself, as in any text;
- column j of line l sees line 0 up to column j, and column j of the lines between: its own past;
- a guess sees the newest token and itself up to here: never the window, never another guess.

Dimensions: T tokens of the pass.

Source: arXiv 2402.02057, figure 2(b).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from minillm.kept import kept

__all__ = ["Layout", "lookahead_layout"]


class Layout(NamedTuple):
    """The pass, token by token; window lines first, then guesses.

    Attributes:
        guess: whether a token belongs to a guess.
        line: of the window, or which guess.
        column: in its line or guess.
        offset: its position, counted from the newest token's.
        mask: (T, T), True where the token of the row sees that of the column.
    """

    guess: Bool[Tensor, " T"]
    line: Int[Tensor, " T"]
    column: Int[Tensor, " T"]
    offset: Int[Tensor, " T"]
    mask: Bool[Tensor, "T T"]


@kept
def lookahead_layout(window: tuple[int, ...], guesses: int, length: int) -> Layout:
    """Lay out a window with lines of these lengths, and as many guesses of one length."""
    places = [(0, line, j) for line, size in enumerate(window) for j in range(size)]
    places += [(1, index, j) for index in range(guesses) for j in range(length)]
    is_guess, line, column = torch.tensor(places).T
    guess = is_guess.bool()
    me, other = (slice(None), None), (None, slice(None))  # rows and columns of the mask
    before = (line[other] == 0) & (column[other] <= column[me])
    own_column = (column[other] == column[me]) & (line[other] >= 1) & (line[other] <= line[me])
    window_sees = ~guess[me] & ~guess[other] & (before | own_column)
    newest = ~guess[other] & (line[other] == 0) & (column[other] == 0)
    own_guess = guess[other] & (line[other] == line[me]) & (column[other] <= column[me])
    mask = window_sees | guess[me] & (newest | own_guess)
    offset = torch.where(guess, 1 + column, line + column)
    return Layout(guess, line, column, offset, mask)
