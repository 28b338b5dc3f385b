"""SmolLM2-135M-Instruct itself, where `minillm fetch smollm2` has put it: minutes, so slow."""

import random
from pathlib import Path

import pytest
import torch
from fetched import needs
from tokenizers import Tokenizer, pre_tokenizers

from minillm import collect, decode_cached
from minillm.checkpoint import Checkpoint, opened, save
from minillm.checkpoint.published import PUBLISHED
from minillm.commands.main import main
from minillm.fast import optimized

pytestmark = [pytest.mark.slow, needs("smollm2")]
QUESTION = "What is the capital of France?"
PARTS = (
    *("the", " quick", "Brown", "\n", "  ", "\t", "42", "3.14", "é", "漢", "🦓", "'s", "'LL", "("),
    *("{", "==", "_x", "\u0301", "\u200d", "Ω", "ﬁ", "½", "٣", " \n ", "\r\n", "-", "...", "def "),
    *("<|im_end|>", "<|im_start|>user\n", "<file_sep>", "<|endoftext|>", "<|im_"),
)


@pytest.fixture(scope="module")
def smollm2() -> Checkpoint:
    return opened("smollm2")


def test_logits_and_answer_are_those_of_transformers(smollm2: Checkpoint, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = smollm2.model()
    save(tmp_path, model, smollm2.tokenizer, torch.float32)
    twin = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens = torch.tensor([smollm2.chat(QUESTION)])
    with torch.no_grad():
        assert (model(tokens) - twin(tokens).logits).abs().max() < 1e-4
    [answer] = collect(
        decode_cached(optimized(model), tokens.tolist(), max_new_tokens=20, stop=smollm2.ends)
    )
    assert smollm2.tokenizer.decode(answer) == "The capital of France is Paris."


def test_the_tokenizer_is_that_of_its_tokenizer_json(smollm2: Checkpoint) -> None:
    """That of transformers, which forgets digits as it reads a GGUF file, with them again."""
    from transformers import AutoTokenizer

    path = PUBLISHED["smollm2"].path
    theirs: Tokenizer = AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name
    ).backend_tokenizer
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices(PARTS, k=draw.randint(0, 25)))
        assert smollm2.tokenizer.encode(text).ids == theirs.encode(text).ids


@pytest.mark.parametrize("row", ["optimized/transformers", "kv_cache/step@500"])
def test_the_bench_takes_it(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "smollm2", "--only", row]) == 0
    assert "check: failed" not in capsys.readouterr().out


def test_it_predicts_stories(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--model", "smollm2"]) == 0
    assert "bits per byte  1.1" in capsys.readouterr().out
