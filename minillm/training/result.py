"""What a finished run leaves: the model in 16 bits, the record, the card."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from minillm.checkpoint import load, save
from minillm.data import recorded
from minillm.files import write_whole
from minillm.measure.evaluation import evaluate
from minillm.tokens import END_OF_TEXT
from minillm.training.data import TrainingData, describe
from minillm.training.model_card import model_card
from minillm.training.trainer import Trainer
from minillm.transformer import Transformer

__all__ = ["RESULT", "storage_dtype", "write_result"]

RESULT = (  # the files that a run may not take from somebody unasked
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "training.json",
    "README.md",
)


def storage_dtype(model: Transformer) -> torch.dtype:
    """float16, whose 10 bits of mantissa round 8 times finer than bfloat16's 7, where all fits."""
    largest = max(weight.abs().max().item() for weight in model.parameters())
    return torch.float16 if largest < torch.finfo(torch.float16).max else torch.bfloat16


def write_result(out: Path, trainer: Trainer, data: TrainingData) -> dict[str, Any]:
    """Write the folder, read it again, and record what the model that was read can do.

    Raises:
        ValueError: it cannot be written; the checkpoint is still there.
    """
    dtype = storage_dtype(trainer.model)
    try:
        save(out, trainer.model, data.tokenizer, dtype)
        _name_end_of_text(out / "config.json", data.tokenizer.token_to_id(END_OF_TEXT))
        model, _ = load(out, trainer.model.device)
        record = _record(model, trainer, data) | {"stored": str(dtype).removeprefix("torch.")}
        text, card = json.dumps(record, indent=1) + "\n", model_card(out.resolve().name, record)
        write_whole(out / "training.json", lambda f: f.write_text(text, encoding="utf-8"))
        write_whole(out / "README.md", lambda f: f.write_text(card, encoding="utf-8"))
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"cannot write the model to {out}: {error}; --resume writes it from the checkpoint"
        ) from error
    return record


def _record(model: Transformer, trainer: Trainer, data: TrainingData) -> dict[str, Any]:
    recipe, held_out = trainer.recipe, evaluate(model, data.validation)
    names = {
        name: Path(value).name
        for name, value in asdict(recipe).items()
        if name in ("validation", "tokenizer", "teacher") and value is not None
    }
    texts = [describe(path) for path in recipe.texts]
    return {
        "step": trainer.step,
        "tokens": trainer.step * trainer.tokens_per_step,
        "unique_tokens": len(data.tokens),
        "seconds": round(trainer.seconds, 1),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": model.config.vocab_size,
        "val_loss": held_out.loss,
        "val_bits_per_byte": held_out.bits_per_byte(data.validation_bytes),
        "train_loss": evaluate(model, data.tokens[: len(data.validation)]).loss,
        "gate_zeros": [round(share, 4) for share in held_out.gate_zeros],
        "texts": texts,
        "recipe": asdict(recipe) | names | {"texts": [text["name"] for text in texts]},
        "versions": recorded.versions(),
        "device": trainer.model.device.type,
        "threads": torch.get_num_threads(),
        "curve": trainer.curve,
    }


def _name_end_of_text(path: Path, token: int | None) -> None:
    """Tell transformers' `generate` where texts start and stop."""
    config = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(config | {"bos_token_id": token, "eos_token_id": token}, indent=1) + "\n"
    write_whole(path, lambda f: f.write_text(text, encoding="utf-8"))
