"""Seven defects of guess and verify, each a small change of this library's own source.

They look right and write fluent text. `patched` runs our modules with one of them in it, so that
readers can hunt it with the meters, and tests can check that the meters see it.

The public cases were read in the named repositories; "constructed" means that none is known.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

__all__ = ["GALLERY", "ORDER", "Bug", "Patch", "library", "patched"]

# Our modules from the model to the decoders; each stands on those before it only.
ORDER = (
    "rope_scaling",
    "config_fields.checked",
    "config_fields.rope",
    "config_fields.gemma",
    "config_fields.arguments",
    "config",
    "norm",
    "rotary",
    "attention",
    "sampling",
    "kv_cache",
    "transformer",
    "batch",
    "decoding",
    "ragged",
    "speculative.verification",
    "speculative.drafters",
    "speculative.prompt_lookup",
    "speculative.decode",
    "jacobi",
    "lookahead.verification",
    "lookahead.pool",
    "lookahead.mask",
    "lookahead.window",
    "lookahead.reads",
    "lookahead.decode",
)


@dataclass(frozen=True)
class Patch:
    """Replace `old`, which occurs once, by `new` in one of our modules, named from `minillm` on."""

    name: str
    module: str
    old: str
    new: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Bug(Patch):
    """A defect to be found.

    Attributes:
        effect: what goes wrong, in a sentence.
        seen: where, in public code; or "constructed".
    """

    effect: str
    seen: str = "constructed"


def library(order: Sequence[str] = ORDER) -> SimpleNamespace:
    """Our modules in the layout of the package, and all that they offer.

    `library().verify` is `library().speculative.verification.verify`.
    """
    return _laid_out({name: import_module(f"minillm.{name}") for name in order})


def patched(patch: Patch, order: Sequence[str] = ORDER) -> SimpleNamespace:
    """The `library` with one module patched, and fresh copies of those that stand on it.

    Imports find no trace of it.

    Args:
        patch: of one of the modules.
        order: the modules, each standing on those before it only.

    Raises:
        ValueError: the text to replace is not there, or more than once.
    """
    ours = {name: import_module(f"minillm.{name}") for name in order}
    stale = order[order.index(patch.module) :]
    modules = dict(ours)
    try:
        for name in stale:
            modules[name] = sys.modules[f"minillm.{name}"] = _copy(ours[name], patch)
    finally:
        sys.modules.update({f"minillm.{name}": ours[name] for name in stale})
    return _laid_out(modules)


def _laid_out(modules: Mapping[str, ModuleType]) -> SimpleNamespace:
    space = SimpleNamespace(**{name: vars(m)[name] for m in modules.values() for name in m.__all__})
    for name, module in modules.items():
        package, _, leaf = name.rpartition(".")
        place = vars(space).setdefault(package, SimpleNamespace()) if package else space
        setattr(place, leaf, module)
    return space


def _copy(module: ModuleType, patch: Patch) -> ModuleType:
    path = Path(str(module.__file__))
    source = path.read_text(encoding="utf-8")
    if module.__name__ == f"minillm.{patch.module}":
        if source.count(patch.old) != 1:
            raise ValueError(
                f"{path.name} must hold the text to replace once, it has it "
                f"{source.count(patch.old)} times: {patch.old!r}"
            )
        source = source.replace(patch.old, patch.new)
    copy = ModuleType(module.__name__)
    sys.modules[copy.__name__] = copy  # where dataclasses look themselves up
    exec(compile(source, str(path), "exec"), vars(copy))
    return copy


GALLERY = (
    Bug(
        "residual = p",
        "speculative.verification",
        "else residual(p[accepted], q[accepted])",
        "else p[accepted]",
        "After a rejection the target's favourites come too often: the kept guesses already "
        "brought a part of them.",
    ),
    Bug(
        "argmax draft, softmax q",
        "speculative.drafters",
        "q, tokens = sampler.draw(logits, now)",
        "q, tokens = sampler.probabilities(logits), logits.argmax(-1)",
        "The draft always guesses its likeliest token, but says that it drew from q.",
        "jaymody/speculative-sampling, issue 3",
    ),
    Bug(
        "one uniform for all positions",
        "speculative.verification",
        "kept = u[:-1] * q",
        "kept = u[0] * q",
        "A number that keeps one guess keeps the next too: each token has the right "
        "distribution, pairs of tokens do not.",
        "feifeibear/LLMSpeculativeSampling seeds again at every position",
    ),
    Bug(
        "bonus after a rejection",
        "speculative.verification",
        "last = p[-1] if accepted == len(guesses) else",
        "last = p[-1] if accepted >= len(guesses) - 1 else",
        "If the last guess is rejected, the token in its place is drawn from the distribution "
        "after it.",
        "walkinglabs/modern-llm-notebook, lesson 23, counts guesses made, not guesses kept",
    ),
    Bug(
        "the target's own sample, accepted by ratio",
        "speculative.verification",
        "    last = p[-1] if accepted == len(guesses) else residual(p[accepted], q[accepted])\n"
        "    return Verdict(accepted, int(pick(last, u[-1])))\n",
        "    own = pick(p, u[-1].expand(len(p)))\n"
        "    return Verdict(accepted, int(own[accepted]))\n",
        "The target samples at every position, which is exact if a guess counts only where it "
        "is that sample; here the ratio p/q decides.",
        "samy19980109/SpeculatoViz",
    ),
    Bug(
        "cache not rewound",
        "speculative.decode",
        "            cache.truncate(held)\n",
        "            kept = zip(cache.lengths, batch.lengths, strict=True)\n"
        "            cache.truncate([min(pair) for pair in kept])\n",
        "A rejected guess stays in the target's cache, and all later tokens attend to it.",
    ),
    Bug(
        "past a stop token",
        "batch",
        "self.ended[b] = token in self._stop or",
        "self.ended[b] = taken == len(tokens) and token in self._stop or",
        "A stop token ends the text only at the end of a block; among kept guesses it is "
        "overlooked.",
        "huggingface/transformers, pull request 31301 and issue 47912",
    ),
)
