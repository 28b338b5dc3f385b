"""Cells of a notebook with one explorer each: every one of the lessons, on small data."""

__all__ = ["EXPLORERS", "NAMES"]

EXPLORERS = {
    "setup": """\
import torch

from minillm import collect, decode_cached, decode_recomputed, load
from minillm.measure.machine import Machine
from minillm.roofline import work
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.tokens import encode, pieces
from minillm.data.public_models import PublicModel
from widgets.common.player import StepPlayer
from widgets.common.predict import predict
from widgets.decoding import CostExplorer, DistributionExplorer
from widgets.kv_cache import CapacityExplorer, growth_film
from widgets.roofline import FreeBatchExplorer, RooflineExplorer
from widgets.transformer import ForwardExplorer

model, tokenizer = load("stories")
prompt = encode(tokenizer, "Once upon a time, there was a little")
text = "The cat sat on the mat. The cat sat on"


def growth(tokens):
    runs = [list(decode(model, [prompt], max_new_tokens=tokens - len(prompt) + 1))
            for decode in (decode_recomputed, decode_cached)]
    forwarded = prompt + collect(iter(runs[1]))[0][:-1]
    return StepPlayer(growth_film(*runs, pieces(tokenizer, forwarded), model.config))
""",
    "player": "growth(24)",
    "capacity": """\
count = sum(p.numel() for p in model.parameters())
CapacityExplorer(PublicModel.from_config("stories", model.config, count))""",
    "distribution": 'DistributionExplorer(model, tokenizer, "Once upon a time")',
    "cost": """\
CostExplorer({"plain": [(16, 5.0), (480, 50.0)], "cached": [(16, 5.0), (480, 6.0)]}, "Cost")""",
    "roofline": """\
machine = Machine("cpu", torch.float32, 2, {1 << 20: 9e10, 1 << 26: 5e10}, 2e11, 1e-6)
RooflineExplorer({"stories": model.config}, machine, [(work(model.config, new=1), 2e-3)])""",
    "roof": """\
from minillm.data.hardware import ACCELERATORS
from widgets.roofline import Roof

Roof({"decode": work(model.config, new=1)}, ACCELERATORS["A100 80 GB SXM"])""",
    "free": """\
runs = {"F.linear": {1: 1e-3, 8: 3e-3}, "x @ W.T": {1: 1e-3, 8: 2e-3}}
FreeBatchExplorer(runs, {1: 1.0, 8: 1.1}, ("recorded", {1: 1.0, 8: 1.3}), title="Free?")""",
    "forward": 'ForwardExplorer(model, tokenizer, "Once upon a time")',
    "acceptance": """\
from widgets.speculative import AcceptanceExplorer

AcceptanceExplorer(model, tokenizer, {"prompt lookup": PromptLookup()}, [text], new=12)""",
    "turns": """\
from minillm.speculative.decode import decode_speculative
from widgets.speculative import turns_film

rounds = decode_speculative(model, [prompt], drafter=PromptLookup(), max_new_tokens=8)
StepPlayer(turns_film(list(rounds)))""",
    "hunt": """\
from minillm.data.heldout import bench_prompts
from widgets.speculative import BugHunt, Meters

exact, other = (load(name, dtype=torch.float64)[0] for name in ("stories", "stories-draft"))
prompts = [encode(tokenizer, text) for text in bench_prompts()]
BugHunt(Meters(exact, other, prompts))""",
    "gain": """\
from minillm.speedup.gain import Costs, Gain
from widgets.speedup import BatchExplorer, GainExplorer, SplitExplorer

costs = {G: Costs(G, 2.0, 1e-3, 2e-3, 1e-4, 2e-3, (0.8,) * G, 0.8) for G in (1, 2, 4)}
gains = {"kernel": {G: Gain(found, found) for G, found in costs.items()}}
GainExplorer(gains)""",
    "split": "SplitExplorer(gains)",
    "batches": "BatchExplorer({8: (400.0, 300.0), 1: (100.0, 150.0)})",
    "jacobi": """\
from widgets.jacobi import JacobiExplorer

JacobiExplorer(model, tokenizer, ["Once upon a time"], new=6)""",
    "passes": """\
from widgets.jacobi import JacobiGainExplorer
from widgets.jacobi.gain import Passes

plain, block = Passes(8, (1,) * 8, 8e-3), Passes(8, (4,) * 6, 9e-3)
JacobiGainExplorer(plain, {"random": {1: plain, 4: block}}, {1: 1.0, 4: 1.3})""",
    "mask": """\
from widgets.lookahead import MaskExplorer

MaskExplorer(model, tokenizer, [text])""",
    "window": """\
from widgets.lookahead import LookaheadGainExplorer

LookaheadGainExplorer(plain, {2: {1: plain, 4: block}}, {1: 1.0, 4: 1.3, 32: 4.0})""",
    "lookahead": """\
from widgets.lookahead import LookaheadExplorer

LookaheadExplorer(model, tokenizer, [text], new=12)""",
    "attention": """\
from widgets.sparsity import AttentionExplorer

AttentionExplorer(model, tokenizer, "Once upon a time")""",
    "neurons": """\
from widgets.sparsity import NeuronExplorer, RateExplorer, UnionExplorer

gates = torch.rand(8, 2, 6, 1024, generator=torch.Generator().manual_seed(0)) - 0.9
gates = gates.relu()
NeuronExplorer(model, tokenizer, "Once upon a time", gates)""",
    "rates": "RateExplorer(gates)",
    "union": "UnionExplorer(gates > 0, gates > 0, [1, 2])",
    "skipping": """\
from widgets.sparsity import SkippingExplorer
from widgets.sparsity.gain import Cost

SkippingExplorer({share: {1: Cost((2e-4, 1e-4), (9, 5), (9, 5))} for share in (0.0, 0.5)})""",
    "grid": """\
from widgets.quantization import GridExplorer

GridExplorer(model)""",
    "layers": """\
from widgets.quantization import LayerErrorExplorer

LayerErrorExplorer(model)""",
    "bits": """\
from widgets.quantization import BitExplorer

BitExplorer()""",
    "formats": """\
from widgets.quantization import FormatsExplorer
from widgets.quantization.formats import Stored

FormatsExplorer(Stored(32, 2.0, 1.0, "float32"), {"int8": Stored(8.1, 2.0, 0.5, "bytes")})""",
    "duel": """\
from widgets.quantization import DuelExplorer

DuelExplorer(model.blocks[3].mlp.gate_up.weight, torch.randn(64, 320))""",
    "gptq": """\
from widgets.gptq import ColumnExplorer

ColumnExplorer(model, torch.tensor([(prompt * 40)[:256]]))""",
    "law": """\
from minillm.scaling import kbit
from widgets.scaling import LawExplorer

LawExplorer(kbit.read())""",
    "hypothesis": """\
from minillm.scaling import overtraining
from widgets.scaling import HypothesisExplorer

HypothesisExplorer(overtraining.read())""",
    "tables": """\
from minillm.serving.workload import Asked
from widgets.serving import BlockTableExplorer, RateExplorer, Rates, TimelineExplorer
from minillm.serving.simulate import Load

asked = [Asked(at, tuple(prompt[:5 + at]), 6) for at in (0, 1, 2)]
BlockTableExplorer(model, asked)""",
    "timeline": """\
TimelineExplorer(model, lambda n: [*asked, Asked(3, tuple((prompt * 40)[:n]), 3)], (60, 90))""",
    "arrivals": """\
loads = [Load(rate, 100 * rate, 0.01 * rate, 0.02 * rate, 0.01) for rate in (0.5, 1.0, 2.0)]
card = Rates({"continuous batching": loads}, "computed")
RateExplorer({"here": Rates({"static": loads, "continuous": loads}, "measured"), "card": card})""",
    "sides": """\
from minillm.public_model import read
from widgets.public_model import SideBySideExplorer

SideBySideExplorer(read(), {"stories": "stories", "smollm2": "SmolLM2"})""",
    "findings": """\
from widgets.public_model import Findings

Findings().add("bytes a token in the cache", "02", 46080, 46080, nothing=0)""",
    "predict": 'guess = predict("00.test", "How many times faster?", low=1, high=100, unit="x")\n'
    "guess",
    "reveal": "guess.reveal(20)",
}
NAMES = tuple(name for name in EXPLORERS if name != "setup")
