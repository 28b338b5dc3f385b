"""Bugs that implementations of this kind have had, as patches of our source.

Each names the module, the text it replaces, and the oracle of `oracles.py` that must notice. Most
are cases of public code (see the notes of the project's reference on KV caches); those that are
not are marked "constructed".
"""

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

__all__ = ["BUGS", "Bug", "planted"]

_PACKAGE = Path(__file__).parents[1] / "minillm"


@dataclass(frozen=True)
class Bug:
    """Replace `old` by `new` in `minillm/<module>.py`; `oracle` must then fail."""

    name: str
    module: str
    old: str
    new: str
    oracle: str

    def __str__(self) -> str:
        return self.name


@contextmanager
def planted(bug: Bug | None, folder: Path) -> Iterator[ModuleType]:
    """A copy of the package with the bug in it (or none), imported in place of `minillm`."""
    (folder / "minillm").mkdir()
    for path in _PACKAGE.glob("*.py"):
        shutil.copy(path, folder / "minillm")
    if bug is not None:
        path = folder / "minillm" / f"{bug.module}.py"
        source = path.read_text(encoding="utf-8")
        assert source.count(bug.old) == 1, f"{path.name} no longer has, once, the text to patch"
        path.write_text(source.replace(bug.old, bug.new), encoding="utf-8")
    ours = {name: sys.modules[name] for name in list(sys.modules) if _is_ours(name)}
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    finders = sys.meta_path[:]  # beartype knows classes by name: the copy's would pass for ours
    sys.meta_path[:] = [f for f in finders if not type(f).__module__.startswith("jaxtyping")]
    try:
        copy = importlib.import_module("minillm")
        assert copy.__file__ is not None
        assert Path(copy.__file__).is_relative_to(folder)
        yield copy
    finally:
        sys.meta_path[:] = finders
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(ours)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] == "minillm"


BUGS = [
    Bug(
        "chunk of a prefill aligned top left",
        "attention",
        "dtype=torch.bool, device=device).tril(S - T)",
        "dtype=torch.bool, device=device).tril()",
        "chunked_prefill",
    ),
    Bug(
        "chunk of a prefill left to is_causal, which aligns top left",
        "attention",
        "        if mask is None and T < k.shape[2]:\n",
        "        if False:\n",
        "chunked_prefill",
    ),
    Bug(
        "stale slots visible",
        "attention",
        "among_new & (new < T)[:, None]",
        "among_new",
        "stale_slots",
    ),
    Bug(
        "stale slots masked where the key is zero",
        "attention",
        "            k, v = cache.append(self.layer, k, v)  # (B, G, S, D)\n",
        "            k, v = cache.append(self.layer, k, v)\n"
        "            S = k.shape[2]\n"
        "            causal = torch.ones(x.shape[1], S, dtype=torch.bool).tril(S - x.shape[1])\n"
        "            mask = (k[:, :1, None] != 0).any(-1) & causal\n",
        "stale_slots",
    ),
    Bug(
        "position from a counter that truncate does not roll back",
        "transformer",
        "        rotation = self.rotary(cached, tokens.shape[1], positions)\n",
        "        seen = getattr(cache, 'seen', 0)\n"
        "        rotation = self.rotary([seen], tokens.shape[1], positions)\n"
        "        if cache is not None:\n"
        "            cache.seen = seen + tokens.shape[1]\n",
        "truncate_and_continue",
    ),
    Bug(
        "truncate forgets one token too many",
        "kv_cache",
        "        self._lengths = [index(length) for length in lengths]\n",
        "        self._lengths = [max(length - 1, 0) for length in lengths]\n",
        "truncate_and_continue",
    ),
    Bug(
        "the decoder truncates one token too many",
        "decoding",
        "[length - 1 for length in batch.lengths]",
        "[max(length - 2, 0) for length in batch.lengths]",
        "step_invariants",
    ),
    Bug(
        "the token just written is left out of what is read (TinyTorch)",
        "kv_cache",
        "return keys[:, :, :S], values[:, :, :S]",
        "return keys[:, :, : S - 1], values[:, :, : S - 1]",
        "one_by_one",
    ),
    Bug(
        "the first token's keys are never written (TinyTorch)",
        "kv_cache",
        "            keys[:, :, S - T : S] = k\n",
        "            keys[:, :, max(S - T, 1) : S] = k[:, :, max(1 + T - S, 0) :]\n",
        "one_by_one",
    ),
    Bug(
        "the last token's values are not written",
        "kv_cache",
        "            values[:, :, S - T : S] = v\n",
        "            values[:, :, S - T : S - 1] = v[:, :, :-1]\n",
        "one_by_one",
    ),
    Bug(
        "key/value heads tiled instead of repeated",
        "attention",
        "    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:\n",
        "    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:\n"
        "        k, v = (x.tile(1, q.shape[1] // k.shape[1], 1, 1) for x in (k, v))\n",
        "attend_by_hand",
    ),
    Bug(
        "key/value heads tiled in the weights that are shown",
        "attention",
        '"b g s d -> b (g n) s d"',
        '"b g s d -> b (n g) s d"',
        "attend_by_hand",
    ),
    Bug(
        "rows of a ragged batch written at one length",
        "kv_cache",
        "        if len(set(starts)) == 1:\n",
        "        if True:\n",
        "ragged_rows",
    ),
    Bug(
        "rows of a ragged batch masked by one length",
        "attention",
        "longest, equal = max(cached), len(set(cached)) == 1",
        "longest, equal = max(cached), True",
        "ragged_rows",
    ),
    Bug(
        "rows of a ragged batch rotated by one length",
        "attention",
        "positions = torch.tensor(cached)[:, None] + torch.arange(T)",
        "positions = torch.tensor(cached)[:, None] * 0 + max(cached) + torch.arange(T)",
        "ragged_rows",
    ),
    Bug(
        "logits of the padding, not of the row's last token",
        "decoding",
        "last = torch.tensor(counts, device=hidden.device) - 1",
        "last = torch.tensor(counts, device=hidden.device) * 0 - 1",
        "rows_alone",
    ),
    Bug(
        "ended row not rolled back",
        "decoding",
        "[length - 1 for length in batch.lengths]",
        "[\n            n if ended and forwards > 1 else length - 1\n"
        "            for n, ended, length in "
        "zip(cache.lengths.tolist(), batch.ended, batch.lengths, strict=True)\n        ]",
        "step_invariants",
    ),
    Bug(
        "sampler draws for ended rows",
        "batch",
        "            if not self.ended[b]:\n",
        "            if True:\n",
        "rows_alone",
    ),
    Bug(
        "one uniform for all rows (feifeibear, over positions)",
        "batch",
        "        return u.to(self._device)\n",
        "        return u[:1].expand(len(u)).to(self._device)\n",
        "rows_alone",
    ),
    Bug(
        "a stop token ends a row one step late (constructed)",
        "batch",
        "self.ended[b] = token in self._stop or",
        "self.ended[b] = self.texts[b][-2] in self._stop or",
        "step_invariants",
    ),
    Bug(
        "cumulative distribution compared with <, not <= (constructed)",
        "sampling",
        "(cumulative <= threshold.unsqueeze(-1))",
        "(cumulative < threshold.unsqueeze(-1))",
        "picks_inverse_cdf",
    ),
    Bug(
        "lengths advanced before the pass is complete (constructed)",
        "transformer",
        "        for block in self.blocks:\n"
        "            x = block(x, rotation, visible, cache)\n"
        "        if cache is not None:\n"
        "            cache.advance(tokens.shape[1])\n",
        "        for block in self.blocks:\n"
        "            norm = block.attention_norm(x)\n"
        "            x = x + block.attention(norm, rotation, visible, cache)\n"
        "            if cache is not None and block is self.blocks[-1]:\n"
        "                cache.advance(tokens.shape[1])\n"
        "            x = x + block.mlp(block.mlp_norm(x))\n",
        "interrupted_forward",
    ),
    Bug(
        "kept rows left where they stood (constructed)",
        "kv_cache",
        "buffer[:, row, :, start : start + len(kept)] = buffer[:, row, :, source]",
        "buffer[:, row, :, source] = buffer[:, row, :, source]",
        "kept_rows",
    ),
    Bug(
        "a guess sees all guesses before it, of other branches too",
        "attention",
        "    if mask is None:\n        if equal:\n            return None\n",
        "    if True:\n        if equal:\n            return None\n",
        "tree_of_guesses",
    ),
    Bug(
        "a guess stands where it is stored, not at its depth",
        "transformer",
        "self.rotary(cached, tokens.shape[1], positions)",
        "self.rotary(cached, tokens.shape[1], None)",
        "tree_of_guesses",
    ),
]
