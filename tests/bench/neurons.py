"""How fast exact effects of all neurons are: the suffix engine against one full hooked forward per neuron.

`make bench` runs this on the shipped model and puts its rows into bench.json. Ours does every neuron at `=`, the loops
some of each layer, and their time and FLOPs are scaled up. Their counterfactual activations are given.

    neurons                           ours: clean run, counterfactual run and all neurons of all layers
    neurons_vs_reference              the loop on the bare Hugging Face network (fused attention, no bridge)
    neurons_vs_reference_layer_<l>    the same, one layer
    neurons_vs_reference_changed      all layers but those where no value changes, so that ours runs nothing: the first
                                      MLP of a parallel model reads `=` alone
    neurons_vs_plain                  the loop on TransformerBridge

`ratio` is the median over repeats of (theirs / ours), timed in turns; `spread` is (max - min) / median; `difference` is
relative to the largest logit.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from baselines import BareNetwork, hook_neuron_loop, plain_neuron_loop
from localize import SHAPES, Work, bare_network, random_model
from rich.console import Console
from rich.table import Table
from timing import Timing, interleaved, largest_difference, write_rows

import arithcirc as ac
from arithcirc.components import Neuron, Position
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.files import DTYPES
from arithcirc.models.protocol import Activations
from arithcirc.models.suffix import Patch, SuffixEngine
from arithcirc.models.zoo import locate

Variant = Callable[[], torch.Tensor]
LOOPS = ("hooks", "plain")


@dataclass
class NeuronWork:
    """All neurons of a model on some prompts; the loops run `sample` neurons of each layer."""

    model: BridgedModel
    bare: BareNetwork
    clean: torch.Tensor
    other: torch.Tensor
    answers: tuple[torch.Tensor, torch.Tensor]
    index: int
    sample: int
    batch_size: int

    @classmethod
    def of(cls, work: Work, sample: int, batch_size: int) -> "NeuronWork":
        sides = (work.pairs.clean, work.pairs.counterfactual)
        device = work.model.device
        clean, other = (torch.from_numpy(work.encoder.encode(s)).to(device) for s in sides)
        answer, rival = (torch.from_numpy(work.encoder.answers(s.answer)).to(device) for s in sides)
        at = work.encoder.index(Position.EQUALS)
        return cls(work.model, work.bare, clean, other, (answer, rival), at, sample, batch_size)

    def picked(self, layer: int) -> list[int]:
        """Neurons of a layer that the loops run, evenly spread."""
        width = self.model.info.d_mlp
        return list(range(layer % 3, width, max(1, width // self.sample)))

    def changed_layers(self) -> list[int]:
        """Layers in which some neuron has another value at `=` in the counterfactual."""
        clean, other = (self.model.activations(t, parts={"post"}).post for t in (self.clean, self.other))
        return [i for i in clean if not torch.equal(clean[i][:, self.index], other[i][:, self.index])]

    def variants(self) -> dict[str, Variant]:
        """`setup`, then for each layer `ours`, and the loops `hooks` and `plain` on the picked neurons."""
        held: dict[str, Any] = {}

        def setup() -> torch.Tensor:
            engine = SuffixEngine(self.model, self.clean, parts={"post"})
            held["engine"], held["source"] = engine, self.model.activations(self.other, parts={"post"})
            held["reduce"] = ac.patching_metrics(engine.clean.logits, *self.answers)
            return engine.clean.logits

        out: dict[str, Variant] = {"setup": setup}
        for layer in range(self.model.info.n_layers):
            every = [Patch(Neuron(layer, n), self.index) for n in range(self.model.info.d_mlp)]
            some = [every[n] for n in self.picked(layer)]
            out[f"ours {layer}"] = lambda patches=every: self._ours(held, patches)
            out[f"hooks {layer}"] = lambda patches=some: hook_neuron_loop(
                self.bare, self.clean, held["source"].post, patches, held["reduce"]
            )
            out[f"plain {layer}"] = lambda patches=some: plain_neuron_loop(
                self.model, self.clean, held["source"].post, patches, held["reduce"]
            )
        return out

    def _ours(self, held: dict[str, Any], patches: Sequence[Patch]) -> torch.Tensor:
        engine: SuffixEngine = held["engine"]
        source: Activations = held["source"]
        return engine.run(patches, source, held["reduce"], batch_size=self.batch_size)


def summed(timings: Sequence[Timing], scales: Sequence[float]) -> Timing:
    """One timing of several parts that were timed in turns, each scaled."""
    rounds = zip(*(t.seconds for t in timings), strict=True)
    seconds = [sum(s * k for s, k in zip(each, scales, strict=True)) for each in rounds]
    flops = sum(t.flops * k for t, k in zip(timings, scales, strict=True))
    return Timing("", seconds, int(flops), max(t.peak_mb for t in timings))


def row(ours: Timing, theirs: Timing, difference: float) -> dict[str, float]:
    """A row of bench.json."""
    ratios = [b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    return {
        "median": theirs.median,
        "ratio": statistics.median(ratios),
        "spread": theirs.spread,
        "peak_mb": theirs.peak_mb,
        "gflop": theirs.flops / 1e9,
        "flop_ratio": theirs.flops / ours.flops if ours.flops else 0.0,
        "difference": difference,
    }


def run(work: NeuronWork, repeats: int, console: Console, title: str) -> dict[str, Any]:
    """Time everything, check equality, print the table and return the rows."""
    layers = range(work.model.info.n_layers)
    timings, results = interleaved(work.variants(), repeats, work.model.device)
    scale = {i: work.model.info.d_mlp / len(work.picked(i)) for i in layers}
    largest = float(results["setup"].abs().max())
    difference = {
        (loop, i): largest_difference(results[f"ours {i}"][work.picked(i)], results[f"{loop} {i}"], logits=largest)
        for loop in LOOPS
        for i in layers
    }

    def of(name: str, which: Sequence[int]) -> Timing:
        scales = [1.0 if name == "ours" else scale[i] for i in which]
        return summed([timings[f"{name} {i}"] for i in which], scales)

    everything = list(layers)
    ours = summed([timings["setup"], of("ours", everything)], [1.0, 1.0])
    worst = {loop: max(difference[loop, i] for i in layers) for loop in LOOPS}
    rows = {"neurons": row(ours, ours, 0.0)}
    rows["neurons_vs_reference"] = row(ours, of("hooks", everything), worst["hooks"])
    rows["neurons_vs_plain"] = row(ours, of("plain", everything), worst["plain"])
    if changed := work.changed_layers():
        partial = summed([timings["setup"], of("ours", changed)], [1.0, 1.0])
        rows["neurons_vs_reference_changed"] = row(partial, of("hooks", changed), worst["hooks"])
    for i in layers:
        rows[f"neurons_vs_reference_layer_{i}"] = row(of("ours", [i]), of("hooks", [i]), difference["hooks", i])
    console.print(drawn(rows, title))
    return rows


def drawn(rows: dict[str, dict[str, float]], title: str) -> Table:
    """The rows as a table for the terminal."""
    table = Table(title=title, box=None, title_justify="left")
    for column in ("", "median s", "spread", "ours faster by", "by FLOPs", "GFLOP", "peak MB", "difference"):
        table.add_column(column, justify="right")
    for name, r in rows.items():
        numbers = (f"{r['median']:.3f}", f"{r['spread']:.0%}", f"{r['ratio']:.1f}x", f"{r['flop_ratio']:.1f}x")
        table.add_row(name, *numbers, f"{r['gflop']:.1f}", f"{r['peak_mb']:.0f}", f"{r['difference']:.1e}")
    return table


def main() -> None:
    """Run the benchmark asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape instead of the shipped model")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, few prompts: does it run and agree?")
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--operands", default="0..299")
    parser.add_argument("--sample", type=int, default=16, help="neurons of each layer that the loops run")
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    if options.quick:
        options.shape, options.prompts, options.operands, options.repeats = "tiny", 6, "0..40", 2
    if options.shape:
        model, network = random_model(*SHAPES[options.shape], options.device, options.dtype)
        name = f"{options.shape}, random weights"
    else:
        model = ac.load(device=options.device, dtype=options.dtype)
        network, name = bare_network(locate(None).source, options.dtype), model.info.name
    found = Work.make(model, network, options.prompts, options.operands, correct=options.shape is None)
    work = NeuronWork.of(found, options.sample, options.batch_size)
    console = Console(width=130)
    size = f"{len(found.pairs)} prompts, {model.info.n_layers} x {model.info.d_mlp} neurons"
    title = (
        f"neurons: {name}, {size}, {torch.get_num_threads()} threads; loops on {len(work.picked(0))} a layer, scaled"
    )
    write_rows(options.out, run(work, options.repeats, console, title), owner="neurons")
    console.print(f"written: {options.out}")


if __name__ == "__main__":
    main()
