"""Modules that an older release had elsewhere: who imports one is told where it is now."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

__all__ = ["MOVED", "tell_what_moved"]

_LIBRARY = {
    "accelerators": "data.hardware",
    "acceptance": "speedup.acceptance",
    "batch_gain": "speedup",
    "bug_gallery": "speculative.bug_gallery",
    "checkpoint_names": "checkpoint.names",
    "checkpoint_tensors": "checkpoint.tensors",
    "drafters": "speculative.drafters",
    "evaluation": "measure",
    "exactness": "speculative.exactness",
    "fast_draft": "fast",
    "formats": "quantization.formats",
    "fused": "fast.block",
    "gain": "speedup",
    "gptq_model": "gptq",
    "heldout": "data.heldout",
    "hessian": "gptq.hessian",
    "hooks": "modules",
    "hypothesis": "scaling.overtraining",
    "int8": "fast.int8_linear",
    "int8_block": "fast.int8_model",
    "int8_twin": "fast.int8_model",
    "kbit": "scaling.kbit",
    "linear": "fast.linear",
    "lookahead_mask": "lookahead.mask",
    "lookahead_pass": "lookahead.reads",
    "lookahead_verification": "lookahead.verification",
    "lookahead_window": "lookahead.window",
    "machine": "measure.machine",
    "megakernel": "fast.draft",
    "neurons": "sparsity.neurons",
    "ngram_pool": "lookahead.pool",
    "noise": "batch",
    "optimized": "fast",
    "outliers": "fast.outliers",
    "packing": "quantization.packing",
    "prompt_lookup": "speculative.prompt_lookup",
    "pruning": "sparsity.pruning",
    "quantized_linear": "quantization.layers",
    "quantized_model": "quantization.model",
    "ranks": "measure.ranks",
    "recorded": "data.recorded",
    "repetition": "measure.repetition",
    "skipping": "sparsity.skipping",
    "smoothing": "quantization.smoothing",
    "swapped": "modules",
    "timing": "measure.timing",
    "verification": "speculative.verification",
    "zoo": "data.public_models",
}
_WIDGETS = {
    "decoding_exercises": "decoding.exercises",
    "gptq_exercises": "gptq.exercises",
    "gptq_law": "scaling",
    "gptq_rounding": "gptq",
    "jacobi_exercises": "jacobi.exercises",
    "jacobi_laws": "jacobi",
    "kv_cache_exercises": "kv_cache.exercises",
    "lookahead_exercises": "lookahead.exercises",
    "quantization_exercises": "quantization.exercises",
    "roofline_exercises": "roofline.exercises",
    "scaling_exercises": "scaling.exercises",
    "sparsity_exercises": "sparsity.exercises",
    "sparsity_gain": "sparsity",
    "speculative_exercises": "speculative.exercises",
    "speculative_gain": "speedup",
    "speculative_hunt": "speculative",
    "speedup_exercises": "speedup.exercises",
    "transformer_exercises": "transformer.exercises",
}
MOVED = {
    f"{package}.{old}": f"{package}.{new}"
    for package, moved in (("minillm", _LIBRARY), ("widgets", _WIDGETS))
    for old, new in moved.items()
}


class _Moved(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if fullname in MOVED:
            raise ImportError(
                f"{fullname} has moved to {MOVED[fullname]}: this notebook is of an older "
                "release, and `minillm lab` has the lessons of this one",
                name=fullname,
            )


def tell_what_moved() -> None:
    """From now on, an import of a module that has moved says where to."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
