"""Faithfulness: how much of the answer's logit a circuit alone recovers.

F(c) = (NL(c) - NL(0)) / (NL(M) - NL(0)), with everything outside the circuit mean-ablated; 0 = everything ablated, M =
nothing ablated; NL in measure.metrics. Beside the mean of per-prompt ratios (the paper's number) stand the ratio of
means (stable), the answer's probability, accuracy and KL(model || circuit) in nats under the same ablation, and random
circuits of the same size, which say how much the choice of heads matters. F may exceed 1: a circuit can be surer than
the model. A high F with all MLPs kept does not show that the MLPs' neurons are all needed.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 3 and appendix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arithcirc.circuits.circuit import RankedHeads, masks_of
from arithcirc.components import Head, all_heads
from arithcirc.measure.batches import in_batches
from arithcirc.measure.interventions import CircuitMasks, ablate_to_means
from arithcirc.measure.means import Means
from arithcirc.measure.metrics import faithfulness, normalized_logit
from arithcirc.models.fit import logit_rows
from arithcirc.models.protocol import HookedModel

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Candidate:
    """A circuit to judge: `label` is ranked, random, full or empty; `draw` numbers the random ones of a size."""

    label: str
    draw: int
    heads: tuple[Head, ...]
    mlps: tuple[int, ...]


@dataclass(frozen=True)
class Judged:
    """Circuits with their rows of numbers, and the prompts on which F is undefined."""

    table: pd.DataFrame
    defined: Bool[np.ndarray, "prompt"]
    gap: Float[np.ndarray, "prompt"]


def ranked_candidates(ranked: RankedHeads, sizes: Sequence[int], mlps: tuple[int, ...]) -> list[Candidate]:
    """The n strongest heads, for each size n."""
    return [Candidate("ranked", 0, ranked.heads[:n], mlps) for n in sizes]


def random_candidates(
    heads: Sequence[Head], sizes: Sequence[int], mlps: tuple[int, ...], draws: int, rng: np.random.Generator
) -> list[Candidate]:
    """`draws` random circuits of each size, from all heads; sizes 0 and all are not random and left out."""
    out = []
    for n in sizes:
        if 0 < n < len(heads):
            for draw in range(draws):
                picked = rng.choice(len(heads), size=n, replace=False)
                out.append(Candidate("random", draw, tuple(heads[i] for i in picked), mlps))
    return out


def judge(
    model: HookedModel,
    tokens: Int[Tensor, "prompt pos"],
    answers: Int[Tensor, "prompt"],
    candidates: Sequence[Candidate],
    means: Means,
    *,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> Judged:
    """Faithfulness of each candidate on these prompts, with the full model and the empty circuit beside them."""
    info = model.info
    layers = tuple(range(info.n_layers))
    anchors = [Candidate("full", 0, all_heads(info.n_layers, info.n_heads), layers), Candidate("empty", 0, (), ())]
    masks = masks_of([(c.heads, c.mlps) for c in candidates], info.n_layers, info.n_heads)
    found = judge_masks(model, tokens, answers, masks, means, batch_size=batch_size, progress=progress)
    judged = [*anchors, *candidates]
    labels = pd.DataFrame(
        {
            "circuit": [c.label for c in judged],
            "n_heads": [len(c.heads) for c in judged],
            "n_mlps": [len(c.mlps) for c in judged],
            "draw": [c.draw for c in judged],
        }
    )
    return replace(found, table=pd.concat([labels, found.table], axis=1))


def judge_masks(
    model: HookedModel,
    tokens: Int[Tensor, "prompt pos"],
    answers: Int[Tensor, "prompt"],
    circuits: CircuitMasks,
    means: Means,
    *,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> Judged:
    """Numbers of the full model, of the empty circuit and of each circuit, in this order and without labels."""
    most = min(batch_size, logit_rows(model.info.d_vocab))
    clean = torch.cat(list(in_batches(len(tokens), most, lambda rows: model.logits(tokens[rows]).log_softmax(-1))))
    masks = _anchors(model).before(circuits)
    values = ablate_to_means(
        model, tokens, masks, means, _numbers(clean, answers), batch_size=batch_size, progress=progress
    ).cpu()
    nl, probability, correct, kl = values.unbind(-1)
    per_prompt, ratio, defined = faithfulness(nl, nl[1], nl[0])
    n_defined = int(defined.sum())
    kept = per_prompt[:, defined]
    table = pd.DataFrame(
        {
            "n": n_defined,
            "undefined": len(tokens) - n_defined,
            "faithfulness": (kept.mean(1) if n_defined else ratio).numpy(),
            "faithfulness_sem": _sem(kept).numpy(),
            "faithfulness_ratio": ratio.numpy(),
            "probability": probability.mean(1).numpy(),
            "accuracy": correct.mean(1).numpy(),
            "kl": kl.mean(1).numpy(),
        }
    )
    return Judged(table, defined.numpy(), (nl[0] - nl[1]).abs().numpy())


def _anchors(model: HookedModel) -> CircuitMasks:
    """The full model and the empty circuit."""
    both = torch.tensor([True, False])
    n_layers, n_heads = model.info.n_layers, model.info.n_heads
    return CircuitMasks(both[:, None, None].expand(2, n_layers, n_heads), both[:, None].expand(2, n_layers))


def _numbers(
    clean: Float[Tensor, "prompt vocab"], answers: Int[Tensor, "prompt"]
) -> Callable[[Float[Tensor, "circuit prompt vocab"], slice], Float[Tensor, "circuit prompt metric"]]:
    """NL, probability of the answer, argmax is the answer, KL(model || circuit)."""

    def reduce(logits: Float[Tensor, "circuit prompt vocab"], prompts: slice) -> Float[Tensor, "circuit prompt metric"]:
        target = answers[prompts].to(logits.device).expand(logits.shape[:2])
        log_q = logits.log_softmax(-1)
        base = clean[prompts]
        kl = (base.exp() * (base - log_q)).sum(-1).clamp_min(0)
        probability = log_q.gather(-1, target.unsqueeze(-1)).squeeze(-1).exp()
        right = (logits.argmax(-1) == target).float()
        return torch.stack([normalized_logit(logits, target), probability, right, kl], dim=-1)

    return reduce


def _sem(values: Float[Tensor, "circuit prompt"]) -> Float[Tensor, "circuit"]:
    n = values.shape[1]
    return values.std(1) / n**0.5 if n > 1 else torch.full((len(values),), torch.nan)


def smallest_faithful(table: pd.DataFrame, target: float) -> int | None:
    """Heads of the smallest ranked circuit whose F reaches the target; None when none does."""
    ranked = table[(table["circuit"] == "ranked") & (table["faithfulness"] >= target)]
    return int(ranked["n_heads"].min()) if len(ranked) else None
