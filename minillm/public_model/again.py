"""Rounding again: what a format adds to weights that may have been rounded before."""

from minillm.measure.divergence import divergences
from minillm.public_model.subject import Subject
from minillm.quantization.simulated import rounded
from minillm.quantization.spec import Spec

__all__ = ["FORMATS", "rounding_again"]

FORMATS = {
    "int4, groups of 32": Spec("int4", 32, symmetric=False),
    "int4, groups of 64": Spec("int4", 64, symmetric=False),
}


def rounding_again(subject: Subject) -> dict[str, float]:
    """By format: KL(the model as it is || rounded to nearest), in nats a token."""
    texts = subject.texts.tolist()
    kl = {}
    for name, spec in FORMATS.items():  # one at a time: each is a copy of all weights
        found = divergences(subject.model, {name: rounded(subject.model, spec)}, texts, batch=1)
        kl[name] = float(found[name].kl.sum() / found[name].tokens.sum())
    return kl
