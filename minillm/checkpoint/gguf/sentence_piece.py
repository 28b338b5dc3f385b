"""SentencePiece's vocabulary, that of Llama 1 and 2, Mistral and Gemma, in words of `tokenizers`.

SentencePiece joins the neighbours whose piece has the best score, again and again; what is left
without a piece becomes bytes. A file holds the scores and no merges: these are all ways to cut a
piece in two, best score first.

Source: Kudo & Richardson 2018, SentencePiece; llama.cpp's `llama-vocab.cpp`, its `SPM`.
"""

from collections.abc import Collection, Iterator, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers

__all__ = ["sentence_piece"]

_SPACE = "▁"
_NORMAL, _UNKNOWN = 1, 2
_LONGEST = 256  # characters of a piece; in public models 31


def sentence_piece(
    pieces: Sequence[str], scores: Sequence[float], kinds: Sequence[int], *, leading_space: bool
) -> Tokenizer:
    """A tokenizer of pieces; those of bytes are `<0x00>` to `<0xFF>`.

    Args:
        scores: of each piece; the better one is joined first.
        kinds: of each piece, in SentencePiece's numbers; only normal ones are joined.
        leading_space: whether a text begins as if a space stood before it.

    Raises:
        ValueError: not each piece has a score and a kind, or one is longer than any real one.
    """
    if not len(pieces) == len(scores) == len(kinds):
        raise ValueError(f"{len(pieces)} pieces have {len(scores)} scores and {len(kinds)} kinds")
    score = {p: s for p, s, kind in zip(pieces, scores, kinds, strict=True) if kind == _NORMAL}
    if max(map(len, score), default=0) > _LONGEST:
        raise ValueError(f"a piece has more than {_LONGEST} characters")
    unknown = next((p for p, kind in zip(pieces, kinds, strict=True) if kind == _UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            {piece: number for number, piece in enumerate(pieces)},
            sorted(_cuts(score), key=lambda cut: -score["".join(cut)]),
            unk_token=unknown,
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    before = [normalizers.Prepend(_SPACE)] if leading_space else []
    tokenizer.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", _SPACE)])
    after = [decoders.Strip(" ", 1, 0)] if leading_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *after]
    )
    return tokenizer


def _cuts(pieces: Collection[str]) -> Iterator[tuple[str, str]]:
    """All pairs of pieces that make a piece."""
    for piece in pieces:
        for middle in range(1, len(piece)):
            if (left := piece[:middle]) in pieces and (right := piece[middle:]) in pieces:
                yield left, right
