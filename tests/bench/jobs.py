"""The jobs of a real-size analysis, to be run for real (scale.py) or counted on a model without weights (predict.py).

    localize   every head and MLP at four positions, 100 prompts of one operator
    neurons    every neuron at `=`, 50 prompts of one operator
    maps       K of 3,200 neurons on all 90,000 prompts of addition with operands 0..299

A `Job` does its work with the package's own functions and knows what the plain loop would run instead: one forward of
the same model per patch, with a hook, reading the logits at the last position only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import arithcirc as ac
from arithcirc.circuits.localize import heads_and_mlps
from arithcirc.circuits.neurons import HELD_BYTES, exact_by_layer
from arithcirc.components import PATCHED_POSITIONS, Head, Neuron, Position
from arithcirc.measure.cost import Cost, counting
from arithcirc.measure.maps import activation_maps
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.built import built
from arithcirc.models.protocol import Activations
from arithcirc.models.shapes import Shape
from arithcirc.models.suffix import Patch, Reduce, SuffixEngine
from arithcirc.models.zoo import named
from arithcirc.training.tokenizer import build_tokenizer

LIMIT = 999
"""Numbers with a token of their own, as Llama 3 has them: every prompt of addition is legal."""
SHAPES = {
    "tiny": ("tiny", Shape("GPTNeoXForCausalLM", 3, 4, 48, 96, 1024, rotary=0.25, n_positions=32)),
    "tiny-llama": ("tiny-llama", Shape("LlamaForCausalLM", 3, 4, 48, 96, 1024, n_kv_heads=2, n_positions=32)),
    **{
        name.split("/")[1].lower(): (name, named(name).shape)
        for name in (
            "EleutherAI/pythia-70m",
            "EleutherAI/pythia-160m",
            "EleutherAI/pythia-6.9b",
            "meta-llama/Meta-Llama-3-8B",
        )
    },
}


@dataclass(frozen=True)
class Sizes:
    """How much of everything: prompts of each job, operands 0..`high` and neurons of `maps`, rows in flight."""

    prompts: int = 100
    neuron_prompts: int = 50
    high: int = 299
    neurons: int = 3200
    batch_size: int = 8192


@dataclass(frozen=True)
class Subject:
    """A model and how numbers are written for it."""

    model: BridgedModel
    encoder: Any
    sizes: Sizes

    def pairs(self, n: int) -> ac.Pairs:
        """n prompts of addition with counterfactuals; random models answer none of them."""
        rng = np.random.default_rng(0)
        legal = ac.legal_prompts(ac.operator("+"), ac.OperandRange(0, self.sizes.high), self.encoder.limit)
        picked = legal[rng.permutation(len(legal))[:n]]
        return ac.Pairs(picked, ac.counterfactuals(picked, legal, rng)[0])

    def tensors(self, pairs: ac.Pairs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens of both sides, and of their answers."""
        sides = (pairs.clean, pairs.counterfactual)
        arrays = [*(self.encoder.encode(s) for s in sides), *(self.encoder.answers(s.answer) for s in sides)]
        tokens, other, answer, rival = (torch.from_numpy(a).to(self.model.device) for a in arrays)
        return tokens, other, answer, rival

    def patches(self, positions: Sequence[Position] = PATCHED_POSITIONS) -> list[Patch]:
        """Of `localize`, in its order."""
        return [Patch(c, self.encoder.index(p)) for p in positions for c in heads_and_mlps(self.model)]

    def neurons(self) -> list[Neuron]:
        """Those whose maps are made, evenly over all layers."""
        layers, width = self.model.info.n_layers, self.model.info.d_mlp
        per_layer = max(1, min(width, self.sizes.neurons // layers))
        return [Neuron(layer, i) for layer in range(layers) for i in range(per_layer)]


def subject(shape: str, sizes: Sizes, *, device: str = "meta", dtype: str = "bfloat16") -> Subject:
    """A model of a named shape with random weights, on the meta device without any."""
    name, sized = SHAPES[shape]
    model = built(sized, build_tokenizer(LIMIT), name=name, device=device, dtype=dtype)
    return Subject(model, ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab), sizes)


@dataclass(frozen=True)
class Job:
    """Work on a subject.

    `run` does it, `count` says what it costs on a subject without weights. `patches` are what the plain loop would run
    one by one (None: there is nothing to compare with), on `prompts` prompts. `times` such works make the job of `bar`
    seconds.
    """

    run: Callable[[Subject], Tensor]
    count: Callable[[Subject], Cost]
    patches: Callable[[Subject], list[Patch]] | None
    prompts: Callable[[Sizes], int]
    times: int
    bar: int


def _localize(s: Subject) -> Tensor:
    effects = ac.localize(s.model, s.encoder, [s.pairs(s.sizes.prompts)], batch_size=s.sizes.batch_size)
    return torch.from_numpy(effects.values)


def _neurons(s: Subject) -> Tensor:
    pairs = s.pairs(s.sizes.neuron_prompts)
    return torch.cat(list(exact_by_layer(s.model, s.encoder, pairs, batch_size=s.sizes.batch_size)))


def _maps(s: Subject) -> Tensor:
    prompts = ac.legal_prompts(ac.operator("+"), ac.OperandRange(0, s.sizes.high), s.encoder.limit)
    return torch.from_numpy(activation_maps(s.model, s.encoder, prompts, s.neurons(), batch_size=s.sizes.batch_size).k)


def _counted(run: Callable[[Subject], Any]) -> Callable[[Subject], Cost]:
    def count(s: Subject) -> Cost:
        with counting() as found:
            run(s)
        return found.cost

    return count


def count_neurons(s: Subject) -> Cost:
    """As `_neurons`, but of each layer one full tile and the last one are run, and the full ones counted as many times.

    Every full tile of a layer runs the same kernels, so this is exact (tests/test_bench_scale.py). Nothing is run for
    the first layer of a parallel model: its MLP reads `=` alone, so no value changes.
    """
    pairs, at = s.pairs(s.sizes.neuron_prompts), s.encoder.index(Position.EQUALS)
    info = s.model.info
    tile = max(1, s.sizes.batch_size // min(len(pairs), s.sizes.batch_size))
    full, rest = divmod(info.d_mlp, tile)
    with counting() as setup:
        tokens, other, answer, rival = s.tensors(pairs)
        engine = SuffixEngine(s.model, tokens, parts=set())
        reduce = ac.patching_metrics(engine.clean.logits, answer, rival)
        engine.window(at, tokens.shape[1] - at)
    total = setup.cost
    block = max(1, HELD_BYTES // (2 * tokens.numel() * info.d_mlp * s.model.dtype.itemsize))  # as exact_by_layer
    for layer in range(info.n_layers):
        if layer % block == 0:
            layers = range(layer, min(layer + block, info.n_layers))
            with counting() as held:
                engine.hold("post", layers)
                source = s.model.activations(other, parts={"post"}, layers=layers)
            total += held.cost
        if layer == 0 and info.parallel:
            with counting() as found:
                reduce(engine.clean.logits[None], slice(0, len(tokens)))
            total += found.cost
            continue
        for width, n in ((tile, full), (rest, int(rest > 0))):
            if not (n and width):
                continue
            with counting() as found:
                patches = [Patch(Neuron(layer, i), at) for i in range(width)]
                engine.run(patches, source, reduce, batch_size=s.sizes.batch_size).cpu()
            total += found.cost.times(n)
    return total


def _all_neurons(s: Subject) -> list[Patch]:
    info, at = s.model.info, s.encoder.index(Position.EQUALS)
    return [Patch(Neuron(layer, i), at) for layer in range(info.n_layers) for i in range(info.d_mlp)]


JOBS = {
    "localize": Job(_localize, _counted(_localize), Subject.patches, lambda z: z.prompts, 4, 180),
    "neurons": Job(_neurons, count_neurons, _all_neurons, lambda z: z.neuron_prompts, 1, 600),
    "maps": Job(_maps, _counted(_maps), None, lambda z: (z.high + 1) ** 2, 4, 120),
}


# -- the plain loop ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainLoop:
    """One hooked forward per patch; the counterfactual's activations are held, clean logits known."""

    subject: Subject
    tokens: Tensor
    source: Activations
    reduce: Reduce

    @classmethod
    def of(cls, s: Subject, n_prompts: int) -> "PlainLoop":
        tokens, other, answer, rival = s.tensors(s.pairs(n_prompts))
        source = s.model.activations(other, parts={"z", "post"})
        return cls(s, tokens, source, ac.patching_metrics(s.model.logits(tokens), answer, rival))

    def run(self, patch: Patch) -> Tensor:
        """Metrics of one patch, (prompt, metric)."""
        component, at = patch.component, patch.index
        part = "z" if isinstance(component, Head) else "post"
        chosen = (component.index,) if isinstance(component, Head | Neuron) else ()
        value = getattr(self.source, part)[component.layer]

        def edit(which: str, layer: int, activation: Tensor) -> Tensor | None:
            if which != part or layer != component.layer:
                return None
            edited = activation.clone()
            edited[:, at, *chosen] = value[:, at, *chosen]
            return edited

        logits = self.subject.model.logits(self.tokens, edit=edit)
        return self.reduce(logits[None], slice(0, len(self.tokens)))[0]

    def count(self, patch: Patch) -> Cost:
        """What one patch costs."""
        with counting() as found:
            self.run(patch)
        return found.cost
