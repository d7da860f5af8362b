"""What attention heads do at `=`: where they look, what they carry, and which edges the answer needs.

attention  a head's attention from `=` to each named position, mean and standard deviation over prompts; over all
           positions it sums to 1
copies     linear probes (circuits.probes) on each head's output z at `=`, of size d_head, for op1, op2, the result, and
           the operator over the prompts of all operators: what can be read there, against the most frequent value
cuts       attention along named edges (to <- from) is masked out before the softmax in every layer and head; BOS and
           the position itself stay visible. Reported against no cut: accuracy, the drop of the answer's log probability
           (nats, positive when the cut hurts) and KL(model || cut model) in nats

Attention says where a head looks, not what it takes from there. A part of the prompt that can be decoded from z need
not be used, and d_head numbers hardly hold hundreds of classes apart: a head may carry an operand's size and still be
far below accuracy 1. A cut moves attention to the positions that remain, which the model never saw in training; a cut
without effect is the stronger evidence.
Cost: one forward per prompt for attention, one per prompt and cut.
Source: Nikankin et al. 2024 (arXiv 2410.21272), appendix on attention heads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.circuits.probes import Probes, train_probes
from arithcirc.components import Head, Position, all_heads
from arithcirc.measure.batches import in_batches
from arithcirc.measure.intervals import wilson
from arithcirc.models.fit import logit_rows
from arithcirc.models.protocol import Cut, HookedModel

Progress = Callable[[int], None]


# -- attention ---------------------------------------------------------------------------------------------------------


def attention_from_equals(
    model: HookedModel, tokens: Int[Tensor, "prompt pos"], *, batch_size: int = 2048, progress: Progress | None = None
) -> Float[Tensor, "head prompt pos"]:
    """Attention of every head, layer by layer, from the last position to every position."""

    def run(rows: slice) -> Tensor:
        pattern = model.activations(tokens[rows], parts={"pattern"}).pattern
        last = torch.stack([layer[:, :, -1] for layer in pattern.values()]).float()
        return rearrange(last, "layer prompt head pos -> (layer head) prompt pos")

    most = min(batch_size, logit_rows(model.info.d_vocab))
    return torch.cat(list(in_batches(len(tokens), most, run, progress=progress)), dim=1)


def attention_rows(
    attention: Float[Tensor, "head prompt pos"], encoder: PromptEncoder, *, n_heads: int
) -> pd.DataFrame:
    """One row per head and named position."""
    n = attention.shape[1]
    mean, spread = attention.mean(1).cpu().numpy(), attention.std(1, correction=0).cpu().numpy()
    heads = all_heads(len(attention) // n_heads, n_heads)
    parts = []
    for position in Position:
        at = encoder.index(position)
        rows = _labels(heads).assign(position=position.value, attention=mean[:, at], attention_std=spread[:, at], n=n)
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def _labels(heads: Sequence[Head]) -> pd.DataFrame:
    return pd.DataFrame({"layer": [h.layer for h in heads], "head": [h.index for h in heads]})


# -- copies ------------------------------------------------------------------------------------------------------------


def read_heads(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    *,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, "head example d_head"], Bool[Tensor, "example"]]:
    """Every head's z at `=`, layer by layer, and which prompts are answered correctly. `progress` counts prompts."""
    tokens, answers = torch.from_numpy(encoder.encode(prompts)), torch.from_numpy(encoder.answers(prompts.answer))

    def run(rows: slice) -> tuple[Tensor, Tensor]:
        last: list[Tensor] = []

        def see(part: str, _: int, value: Tensor) -> None:
            if part == "z":
                last.append(value[:, -1].clone())

        logits = model.logits(tokens[rows], edit=see)
        z = rearrange(torch.stack(last), "layer prompt head d_head -> (layer head) prompt d_head")
        return z, logits.argmax(-1) == answers[rows].to(logits.device)

    most = min(batch_size, logit_rows(model.info.d_vocab))
    found, correct = zip(*in_batches(len(tokens), most, run, progress=progress), strict=True)
    return torch.cat(found, dim=1), torch.cat(correct)


@dataclass(frozen=True)
class Training:
    """How probes are trained: Adam's step, examples per step, most epochs."""

    learning_rate: float
    batch: int
    epochs: int


def decode(
    z: Float[Tensor, "head example d_head"],
    values: Mapping[str, np.ndarray],
    *,
    training: Training,
    generator: Generator,
    progress: Progress | None = None,
) -> dict[str, Probes]:
    """Probes on every head for each of the named columns of values. `progress` counts epochs of heads."""
    found = {}
    for what, column in values.items():
        classes, labels = np.unique(column, return_inverse=True)
        found[what] = train_probes(
            z,
            torch.from_numpy(labels),
            n_classes=len(classes),
            learning_rate=training.learning_rate,
            batch=training.batch,
            epochs=training.epochs,
            generator=generator,
            progress=progress,
        )
    return found


def copy_rows(found: Mapping[str, Probes], *, n_heads: int) -> pd.DataFrame:
    """One row per head and decoded part."""
    parts = []
    for what, probes in found.items():
        heads = all_heads(len(probes.correct) // n_heads, n_heads)
        rows = _labels(heads).assign(what=what, accuracy=probes.accuracy, base_rate=probes.base_rate, n=probes.n)
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


# -- cuts --------------------------------------------------------------------------------------------------------------

Edge = tuple[Position, Position]
"""(to, from): the position that may not read, and what it may not read."""
_OP1, _OPERATOR, _OP2, _EQUALS = Position.OP1, Position.OPERATOR, Position.OP2, Position.EQUALS
CUTS: dict[str, tuple[Edge, ...]] = {
    "operator <- op1": ((_OPERATOR, _OP1),),
    "op2 <- op1": ((_OP2, _OP1),),
    "op2 <- operator": ((_OP2, _OPERATOR),),
    "op2 <- op1, operator": ((_OP2, _OP1), (_OP2, _OPERATOR)),
    "op2 <- op1, operator; operator <- op1": ((_OP2, _OP1), (_OP2, _OPERATOR), (_OPERATOR, _OP1)),
    "= <- op1": ((_EQUALS, _OP1),),
    "= <- operator": ((_EQUALS, _OPERATOR),),
    "= <- op2": ((_EQUALS, _OP2),),
}
"""The control of the paper (what an earlier position received from those before it), and the edges of `=` itself."""
NO_CUT = "none"


def cut_edges(encoder: PromptEncoder, edges: Sequence[Edge]) -> Cut:
    """Token indices of named edges."""
    return frozenset((encoder.index(to), encoder.index(source)) for to, source in edges)


def judge_cuts(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    *,
    cuts: Mapping[str, Sequence[Edge]] = CUTS,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per cut, after one of the uncut model ("none"): accuracy with Wilson's 95% interval, drop of the answer's
    log probability and KL. `progress` counts (cut, prompt) rows, "none" included."""
    tokens, answers = torch.from_numpy(encoder.encode(prompts)), torch.from_numpy(encoder.answers(prompts.answer))
    named = {name: cut_edges(encoder, edges) for name, edges in cuts.items()}

    def run(rows: slice) -> dict[str, Tensor]:
        clean, wanted = model.logits(tokens[rows]).log_softmax(-1), answers[rows].to(model.device)
        found = {NO_CUT: _against(clean, clean, wanted)}
        for name, cut in named.items():
            found[name] = _against(clean, model.logits(tokens[rows], cut=cut).log_softmax(-1), wanted)
        return found

    def advance(n: int) -> None:
        if progress is not None:
            progress(n * (1 + len(named)))

    most = min(batch_size, logit_rows(model.info.d_vocab))
    parts = list(in_batches(len(tokens), most, run, progress=advance))
    rows = []
    for name in (NO_CUT, *named):
        right, drop, kl = torch.cat([found[name] for found in parts], dim=1).double().mean(1).tolist()
        low, high = wilson(round(right * len(tokens)), len(tokens))
        numbers = {"accuracy": right, "low": low, "high": high, "logit_diff": drop, "kl": kl, "n": len(tokens)}
        rows.append({"cut": name} | numbers)
    return pd.DataFrame(rows)


def _against(
    clean: Float[Tensor, "prompt vocab"], cut: Float[Tensor, "prompt vocab"], answers: Int[Tensor, "prompt"]
) -> Float[Tensor, "measure prompt"]:
    """Correct, drop of the answer's log probability, KL(clean || cut), from log probabilities."""
    rows = torch.arange(len(answers), device=answers.device)
    kl = (clean.exp() * (clean - cut)).sum(-1).clamp_min(0)
    return torch.stack([(cut.argmax(-1) == answers).float(), clean[rows, answers] - cut[rows, answers], kl])
