"""The README of a trained model: what it is, what it was trained on, what it cannot do.

Written from the record in training.json, with the front matter that Hugging Face reads.
"""

from typing import Any

from minillm.training.recipe import Recipe

__all__ = ["model_card"]

_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
- llama
- minillm
---

# {name}

A language model of the Llama family with {parameters:,} parameters, trained from random weights
with `minillm train`. Hugging Face transformers loads the same folder as a `LlamaForCausalLM`.

| | |
|---|---|
| layers, width | {layers}, {width} |
| query heads, key/value heads, head size | {heads}, {kv_heads}, {head_dim} |
| MLP width, activation of the gate | {mlp}, {activation} |
| vocabulary, context | {vocabulary:,}, {context} |
| stored as | {stored} |

## Text

Trained on {texts}: {unique_tokens:,} tokens, of which the run read {tokens:,}
({passes:.2f} passes). Held out: {validation}. The licence and the origin of this text decide
what the weights may be used for; the command does not know them, so add them here, and `license`
and `datasets` to the front matter, before you publish.

## Training

```
{command}
```

{objective} Muon (float32 Newton-Schulz, learning rate {muon_lr}, momentum
{muon_momentum}, weight decay {muon_decay}) on the matrices of the layers; AdamW (learning rate
{adam_lr}, betas 0.9 and 0.95, weight decay {adam_decay}) on the rest. {step} steps of {batch} rows,
{warmup} of them warm-up, decay to zero over the last {decay_fraction:.0%}; seed {seed};
{minutes:.1f} minutes. `training.json` holds every option, the versions and the curve.

## Figures

| | |
|---|---|
| held-out loss, nats a token | {val_loss:.3f} |
| held-out bits a byte | {val_bits_per_byte:.3f} |
| loss on the same number of training tokens | {train_loss:.3f} |
| zeros of the gate, by layer | {zeros} |

## Limits

It continues texts like those it was trained on, and nothing else: it follows no instructions,
knows no facts to rely on, and loses the thread of long texts. At temperature 0 a model of this size
tends to repeat itself. It repeats the biases of its text. It is made for learning how inference
works, not for use.
"""


def model_card(name: str, record: dict[str, Any]) -> str:
    """The card of the model `name`; `record` is what `minillm train` wrote to training.json."""
    recipe, teacher = record["recipe"], record["recipe"]["teacher"]
    objective = "Next-token cross-entropy."
    if teacher:
        objective = (
            f"Distilled from `{teacher}`: KL to its distribution + "
            f"{recipe['cross_entropy_weight']} cross-entropy."
        )
    if recipe["gate_l1"]:
        objective += f" L1 penalty of {recipe['gate_l1']} on the gates' mean output."
    return _CARD.format_map(
        recipe
        | record
        | {
            "name": name,
            "command": Recipe(**recipe | {"texts": tuple(recipe["texts"])}).command(name),
            "objective": objective,
            "texts": ", ".join(f"`{text['name']}`" for text in record["texts"]),
            "validation": f"`{recipe['validation']}`" if recipe["validation"] else "its tail",
            "passes": record["tokens"] / record["unique_tokens"],
            "minutes": record["seconds"] / 60,
            "zeros": ", ".join(f"{share:.0%}" for share in record["gate_zeros"]),
        }
    )
