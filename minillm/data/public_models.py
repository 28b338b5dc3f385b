"""Sizes of public models, as their papers give them. Nothing here is measured."""

from dataclasses import dataclass

from minillm.config import ModelConfig
from minillm.data.hardware import Accelerator

__all__ = ["LLAMA_3_8B", "MODELS", "Capacity", "PublicModel", "capacity"]


@dataclass(frozen=True)
class PublicModel:
    """What the memory of a model depends on.

    Attributes:
        parameters: all weights, embeddings included.
        kv_elements_per_token: numbers that one token adds to the cache.
        kv_formula: how that product is made.
        context: the longest text it was trained for, in tokens.
        source: where the sizes stand.
    """

    name: str
    parameters: float
    kv_elements_per_token: int
    kv_formula: str
    context: int
    source: str

    @classmethod
    def from_config(cls, name: str, config: ModelConfig, parameters: int) -> "PublicModel":
        """A model of ours beside the public ones."""
        return _model(
            name,
            parameters,
            (config.num_hidden_layers, config.num_key_value_heads, config.head_dim),
            config.max_position_embeddings,
            "its config.json",
        )


LLAMA_3_8B = ModelConfig(  # its config.json (arXiv 2407.21783)
    vocab_size=128256,
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=14336,
    max_position_embeddings=8192,
    hidden_act="silu",
    rope_theta=500_000.0,
    tie_word_embeddings=False,
)


def _model(
    name: str, parameters: float, kv: tuple[int, int, int], context: int, source: str
) -> PublicModel:
    layers, heads, head_dim = kv
    formula = f"2 x {layers} layers x {heads} kv heads x {head_dim}"
    return PublicModel(name, parameters, 2 * layers * heads * head_dim, formula, context, source)


MODELS: dict[str, PublicModel] = {
    model.name: model
    for model in (
        _model("GPT-3", 175e9, (96, 96, 128), 2048, "arXiv 2005.14165, table 2.1"),
        _model(
            "Llama-2-7B", 6_738_415_616, (32, 32, 128), 4096, "arXiv 2307.09288; its config.json"
        ),
        _model(
            "Llama-2-70B", 68_976_648_192, (80, 8, 128), 4096, "arXiv 2307.09288; its config.json"
        ),
        _model(
            "Llama-3-8B", 8_030_261_248, (32, 8, 128), 8192, "its config.json (arXiv 2407.21783)"
        ),
        _model(
            "Llama-3.1-405B", 405_853_388_800, (126, 8, 128), 131_072, "arXiv 2407.21783, table 3"
        ),
        PublicModel(
            "DeepSeek-V3 (MLA)",
            671e9,
            61 * (512 + 64),
            "61 layers x (512 latent + 64 rotary)",
            131_072,
            "arXiv 2412.19437, section 4.2",
        ),
    )
}


@dataclass(frozen=True)
class Capacity:
    """A model, its cache and the memory for both, in bytes.

    Attributes:
        weights: of the parameters.
        per_token: of the cache that one more token in each row of the batch takes.
        memory: of all cards.
    """

    weights: float
    per_token: float
    memory: float

    @property
    def tokens(self) -> int:
        """The longest context that fits; 0 where the weights alone do not."""
        return max(0, int((self.memory - self.weights) // self.per_token))


def capacity(
    model: PublicModel, card: Accelerator, *, cards: int = 1, batch: int = 1, bits: int = 16
) -> Capacity:
    """What fits when weights and cache are both stored in `bits` bits a number.

    >>> from minillm.data.hardware import ACCELERATORS
    >>> capacity(MODELS["Llama-3-8B"], ACCELERATORS["RTX 4090"]).tokens
    60573
    """
    return Capacity(
        weights=model.parameters * bits / 8,
        per_token=model.kv_elements_per_token * batch * bits / 8,
        memory=cards * card.memory,
    )
