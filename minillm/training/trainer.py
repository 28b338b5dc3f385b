"""Training, one step at a time, and everything that a step changes.

A step reads the rows that belong to its number, follows the gradient of the objective with Muon
(matrices of the layers) and AdamW (all else), and counts itself. The weights, the optimizers'
means, the count and the time are the whole state (`minillm.training.state` writes it to a file).

Source of the recipe: nanoGPT speed runs and Keller Jordan's "Muon" (2024).
"""

import math
import time

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from minillm.checkpoint import load
from minillm.config import ModelConfig
from minillm.tokens import same_tokens
from minillm.training.muon import Muon
from minillm.training.objective import training_loss
from minillm.training.recipe import Recipe
from minillm.training.text_data import batch_rows
from minillm.transformer import Transformer

__all__ = ["Trainer", "new_model", "new_trainer", "optimizers"]


def new_model(config: ModelConfig, std: float, seed: int) -> Transformer:
    """Random weights; what writes to the residual stream starts smaller by sqrt(2 layers)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):  # where torch's own initialisation draws no random numbers
        model = Transformer(config)
    weights = {}
    for name, weight in model.named_parameters():
        writes = name.endswith((".out.weight", ".down.weight"))
        scale = std / (2 * config.num_hidden_layers) ** 0.5 if writes else std
        random = torch.randn(weight.shape, generator=generator) if weight.ndim == 2 else None
        weights[name] = torch.ones(weight.shape) if random is None else scale * random
    model.load_state_dict(weights, assign=True, strict=not config.tie_word_embeddings)
    if config.tie_word_embeddings:
        model.head.weight = model.embed.weight
    return model


def optimizers(model: Transformer, recipe: Recipe) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices of the layers, each part of a fused one by itself; AdamW for the rest.

    Each group keeps its full learning rate as `peak`.
    """
    D, F = model.config.head_dim, model.config.intermediate_size
    H, G = model.config.num_attention_heads, model.config.num_key_value_heads
    parts = {"qkv.weight": [H * D, G * D, G * D], "gate_up.weight": [F, F]}
    matrices, rest = [], []
    for name, weight in model.named_parameters():
        if name.startswith("blocks.") and weight.ndim == 2:
            rows = next((rows for end, rows in parts.items() if name.endswith(end)), None)
            matrices.append({"params": [weight], "rows": rows, "peak": recipe.muon_lr})
        else:
            rest.append(weight)
    muon = Muon(
        matrices,
        lr=recipe.muon_lr,
        momentum=recipe.muon_momentum,
        weight_decay=recipe.muon_decay,
    )
    adam = torch.optim.AdamW(
        [{"params": rest, "peak": recipe.adam_lr}],
        lr=recipe.adam_lr,
        betas=(0.9, 0.95),
        weight_decay=recipe.adam_decay,
    )
    return muon, adam


class Trainer:
    """A model in training.

    Attributes:
        optimizers: Muon and AdamW, with their means.
        step: steps taken.
        seconds: time spent in them.
        curve: records of the way, kept by whoever drives the training.
    """

    def __init__(
        self,
        model: Transformer,
        recipe: Recipe,
        tokens: Tensor,
        teacher: Transformer | None = None,
    ):
        self.model, self.recipe, self.teacher, self._tokens = model, recipe, teacher, tokens
        self.step, self.seconds, self.curve = 0, 0.0, list[dict[str, float]]()
        self.optimizers = optimizers(model, recipe)
        batch_rows(tokens, recipe.context, recipe.batch, recipe.seed, 0)  # refuses a tiny text

    @property
    def tokens_per_step(self) -> int:
        return self.recipe.batch * self.recipe.context

    @property
    def steps(self) -> int | None:
        """Steps of the whole run; None where its length is a time."""
        if self.recipe.minutes is not None:
            return None
        epochs = 1 if self.recipe.epochs is None else self.recipe.epochs
        return self.recipe.steps or math.ceil(epochs * len(self._tokens) / self.tokens_per_step)

    @property
    def done(self) -> float:
        """Share of the run that lies behind; 1 or more at its end."""
        if self.recipe.minutes is not None:
            return self.seconds / (60 * self.recipe.minutes)
        return self.step / (self.steps or 1)

    def advance(self) -> float:
        """Take one step; the cross-entropy, in nats a token, of its rows before it.

        Raises:
            ValueError: the loss is not finite; the weights are as before.
        """
        start, recipe, device = time.perf_counter(), self.recipe, self.model.device
        rate = recipe.rate(self.step, self.done)
        rows = batch_rows(self._tokens, recipe.context, recipe.batch, recipe.seed, self.step)
        half = recipe.dtype == "bfloat16"
        self.model.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss, cross_entropy = training_loss(
                self.model,
                rows.to(device),
                teacher=self.teacher,
                cross_entropy_weight=recipe.cross_entropy_weight,
                gate_l1=recipe.gate_l1,
            )
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            raise ValueError(
                f"the loss is {loss.item()} at step {self.step}: lower the learning rates"
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak"]
            optimizer.step()
        self.step += 1
        self.seconds += time.perf_counter() - start
        return cross_entropy.item()


def new_trainer(
    recipe: Recipe, tokens: Tensor, tokenizer: Tokenizer, device: torch.device | str
) -> Trainer:
    """A trainer at step 0, with the recipe's teacher.

    Raises:
        FileNotFoundError: no such teacher.
        ValueError: a teacher with another vocabulary or a shorter context, an unknown device, a
            shape that cannot be, fewer tokens than one row.
    """
    vocabulary, teacher = 1 + max(tokenizer.get_vocab().values()), None
    if recipe.teacher is not None:
        teacher, its_tokenizer = load(recipe.teacher, device)
        if not same_tokens(its_tokenizer, tokenizer):
            raise ValueError(f"teacher {recipe.teacher} has another vocabulary than the student")
        if teacher.config.vocab_size < vocabulary:
            raise ValueError(f"teacher {recipe.teacher} has tokens beyond its embedding")
        if teacher.config.max_position_embeddings < recipe.context:
            raise ValueError(
                f"teacher {recipe.teacher} has a context of "
                f"{teacher.config.max_position_embeddings}, fewer than {recipe.context}"
            )
        vocabulary = teacher.config.vocab_size
    model = new_model(recipe.model_config(vocabulary), recipe.init_std, recipe.seed)
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {str(device)!r} is not available: {error}") from error
    return Trainer(model, recipe, tokens, teacher)
