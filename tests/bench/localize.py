"""How fast exact localisation is: ours against the plain loop and the reference's loop, in one process.

`make bench` runs this on the shipped model and writes bench.json (name -> median seconds, ratio, spread).
`--shape tiny` runs the same on small random weights; scale.py runs it at the shapes of published models.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baselines import BareNetwork, hook_loop, plain_loop, reference_loop
from rich.console import Console
from rich.table import Table
from timing import interleaved, largest_difference, matmul_rate, write_rows
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

import arithcirc as ac
from arithcirc.components import PATCHED_POSITIONS
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.files import DTYPES
from arithcirc.models.zoo import locate
from arithcirc.training.tokenizer import save_tokenizer

SHAPES = {"tiny": (3, 4, 48, 96)}
DEPTHS = (4, 12, 24)
OWN = ("localize", "reference_loop")
"""First words of the rows this benchmark writes."""
M100_REFERENCE = 1.45
"""Seconds the paper's released code took on shared/models/neox-m100: 80 patches x 50 prompts, one core."""


def random_model(
    layers: int, heads: int, d_model: int, d_mlp: int, device: str | None, dtype: str
) -> tuple[BridgedModel, Any]:
    """A GPT-NeoX with random weights, loaded as any other model, and its bare network."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        config = GPTNeoXConfig(
            vocab_size=539, hidden_size=d_model, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=d_mlp, max_position_embeddings=16, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        with torch.device(device or "cpu"):
            network = GPTNeoXForCausalLM._from_config(config, dtype=DTYPES[dtype])
        network.save_pretrained(folder)
        save_tokenizer(530, Path(folder))
        return ac.load(folder, device=device, dtype=dtype), network.eval()


@dataclass
class Work:
    """One localisation to do: model, prompts, counterfactuals, patches and the numbers to keep."""

    model: BridgedModel
    bare: BareNetwork
    encoder: Any
    pairs: ac.Pairs
    patches: list[ac.Patch]

    @classmethod
    def make(cls, model: BridgedModel, network: Any, n: int, operands: str, *, correct: bool) -> "Work":
        encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
        values = ac.OperandRange.parse(operands)
        if correct:
            from arithcirc.pipeline.api import sample_pairs

            pairs = sample_pairs(model, encoder, "+", n, operands=values)
        else:
            rng = np.random.default_rng(0)
            legal = ac.legal_prompts(ac.operator("+"), values, encoder.limit)
            picked = legal[rng.permutation(len(legal))[:n]]
            pairs = ac.Pairs(picked, ac.counterfactuals(picked, legal, rng)[0])
        from arithcirc.circuits.localize import heads_and_mlps

        patches = [ac.Patch(c, encoder.index(p)) for p in PATCHED_POSITIONS for c in heads_and_mlps(model)]
        return cls(model, BareNetwork(network.to(model.device)), encoder, pairs, patches)

    def variants(self, sample: int) -> dict[str, Callable[[], torch.Tensor]]:
        """Ours and the three baselines, each from tokens to numbers; the baselines do every `sample`-th patch only."""
        device = self.model.device
        clean = torch.from_numpy(self.encoder.encode(self.pairs.clean)).to(device)
        other = torch.from_numpy(self.encoder.encode(self.pairs.counterfactual)).to(device)
        answer = torch.from_numpy(self.encoder.answers(self.pairs.clean.answer)).to(device)
        rival = torch.from_numpy(self.encoder.answers(self.pairs.counterfactual.answer)).to(device)
        some = self.patches[::sample]

        def reduce() -> Any:
            return ac.patching_metrics(self.model.logits(clean), answer, rival)

        return {
            "ours": lambda: torch.from_numpy(ac.localize(self.model, self.encoder, [self.pairs]).values),
            "plain": lambda: plain_loop(self.model, clean, other, some, reduce()),
            "hooks": lambda: hook_loop(self.bare, clean, other, some, reduce()),
            "reference": lambda: reference_loop(self.bare, clean, other, some, reduce()),
        }


def bare_network(source: str, dtype: str) -> Any:
    """The Hugging Face network behind a folder, without the bridge."""
    return AutoModelForCausalLM.from_pretrained(source, dtype=DTYPES[dtype], use_safetensors=True).eval()


def run(
    work: Work, repeats: int, console: Console, title: str, *, skip: tuple[str, ...] = (), sample: int = 1
) -> dict[str, Any]:
    """Time everything, check equality, print the table and return the rows of bench.json.

    With `sample` > 1 the baselines run every sample-th patch and their time and FLOPs are scaled up.
    """
    variants = {k: v for k, v in work.variants(sample).items() if k not in skip}
    timings, results = interleaved(variants, repeats, work.model.device)
    rate = matmul_rate(work.model.device, work.model.dtype)
    table = Table(title=title, box=None, title_justify="left")
    for column in ("", "median s", "spread", "ours faster by", "peak MB", "GFLOP", "of matmul rate", "difference"):
        table.add_column(column, justify="right")
    rows: dict[str, Any] = {}
    for name, timing in timings.items():
        scale = 1.0 if name == "ours" else len(work.patches) / len(work.patches[::sample])
        pairs = zip(timing.seconds, timings["ours"].seconds, strict=True)
        row = {
            "median": timing.median * scale,
            "ratio": statistics.median(scale * theirs / ours for theirs, ours in pairs),
            "spread": timing.spread,
            "peak_mb": timing.peak_mb,
            "gflop": timing.flops * scale / 1e9,
            "matmul_share": timing.flops / timing.median / rate,
            "difference": largest_difference(results["ours"][:: 1 if name == "ours" else sample], results[name]),
        }
        rows[name] = row
        cells = (f"{row['median']:.3f}", f"{row['spread']:.0%}", f"{row['ratio']:.1f}x", f"{row['peak_mb']:.0f}")
        table.add_row(name, *cells, f"{row['gflop']:.1f}", f"{row['matmul_share']:.0%}", f"{row['difference']:.1e}")
    console.print(table)
    return rows


def main() -> None:
    """Run the benchmark asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape instead of the shipped model")
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--operands", default="0..299")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    console = Console(width=130)
    if options.shape:
        model, network = random_model(*SHAPES[options.shape], options.device, options.dtype)
        work = Work.make(model, network, options.prompts, options.operands, correct=False)
        sample = max(1, len(work.patches) // 100)
        title = f"{options.shape}, random weights, {options.dtype}; baselines on 1 in {sample} patches, scaled"
        rows = run(work, options.repeats, console, title, skip=("plain",), sample=sample)
        write_rows(options.out, {f"localize_{options.shape}": rows}, owner=OWN)
        return
    results = {**shipped(options, console), **depths(options, console), **against_reference(console)}
    write_rows(options.out, results, owner=OWN)
    console.print(f"written: {options.out}")


def shipped(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The shipped model: 1 operator, all heads and MLPs, 4 positions."""
    model = ac.load(device=options.device, dtype=options.dtype)
    work = Work.make(
        model, bare_network(locate(None).source, options.dtype), options.prompts, options.operands, correct=True
    )
    size = f"{len(work.pairs)} prompts, {len(work.patches)} patches, {torch.get_num_threads()} threads"
    title = f"localize: {model.info.name}, {size}"
    rows = run(work, options.repeats, console, title)
    names = {"plain": "localize_vs_plain", "hooks": "localize_vs_hooks", "reference": "localize_vs_reference"}
    return {names.get(k, "localize"): v for k, v in rows.items()}


def depths(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """How the ratio grows with depth, at the shipped model's width."""
    out = {}
    for layers in DEPTHS:
        model, network = random_model(layers, 4, 128, 512, options.device, options.dtype)
        work = Work.make(model, network, options.prompts, options.operands, correct=False)
        sample = max(1, len(work.patches) // 40)
        title = f"depth {layers}, random weights; baselines on 1 in {sample} patches, scaled"
        rows = run(work, 3, console, title, skip=("reference",), sample=sample)
        out[f"localize_vs_plain_depth_{layers}"] = rows["plain"]
        out[f"localize_vs_hooks_depth_{layers}"] = rows["hooks"]
    return out


def against_reference(console: Console) -> dict[str, Any]:
    """Is the reference loop a fair one? It must not be slower than the released code was on the same model."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "models" / "neox-m100"
    if not folder.is_dir():
        console.print("shared/models/neox-m100 is absent: the reference loop's fairness was not checked here")
        return {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = ac.load(str(folder))
        work = Work.make(model, bare_network(str(folder), "float32"), 50, "0..99", correct=True)
        timing = interleaved({"reference": work.variants(1)["reference"]}, 5, model.device)[0]["reference"]
    finally:
        torch.set_num_threads(threads)
    console.print(
        f"reference loop on neox-m100, one core: {timing.median:.2f} s (the released code: {M100_REFERENCE} s)"
    )
    return {
        "reference_loop_m100": {
            "median": timing.median,
            "ratio": timing.median / M100_REFERENCE,
            "spread": timing.spread,
        }
    }


if __name__ == "__main__":
    main()
