"""Choosing a circuit from effects.

Heads are ranked by a robust effect (`logit_diff` by default, see measure.metrics): a head's rank is by its largest mean
effect over positions. MLPs are all kept unless a list is given, as in the paper. Ranking by single-component effects is
greedy: redundant heads rank low although one of them is needed, which the faithfulness curve then shows.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from arithcirc.components import Head
from arithcirc.errors import RequestError
from arithcirc.measure.interventions import CircuitMasks


@dataclass(frozen=True)
class RankedHeads:
    """All heads, strongest first, with the effect they were ranked by and the position where it was largest."""

    heads: tuple[Head, ...]
    effect: tuple[float, ...]
    position: tuple[str, ...]


def rank_heads(effects: pd.DataFrame, *, metric: str = "logit_diff", change: str = "any") -> RankedHeads:
    """Rank the heads of one operator's rows of the table `effects`. Raises RequestError for an unknown metric."""
    rows = effects[(effects["kind"] == "head") & (effects["metric"] == metric) & (effects["change"] == change)]
    if rows.empty:
        known = ", ".join(sorted(effects["metric"].unique()))
        raise RequestError(f"no effects of metric {metric!r} to rank heads by: use one of {known}")
    best = rows.loc[rows.groupby(["layer", "head"])["mean"].idxmax()]
    best = best.sort_values(["mean", "layer", "head"], ascending=[False, True, True])
    labels = zip(best["layer"].to_list(), best["head"].to_list(), strict=True)
    heads = tuple(Head(int(layer), int(head)) for layer, head in labels)
    return RankedHeads(heads, tuple(best["mean"].astype(float)), tuple(best["position"]))


def parse_mlps(text: str, n_layers: int) -> tuple[int, ...]:
    """`all`, `none`, or layers as `0,2-5`. Raises RequestError."""
    words = text.strip().lower()
    if words == "all":
        return tuple(range(n_layers))
    if words == "none":
        return ()
    layers: set[int] = set()
    for item in words.split(","):
        low, dash, high = item.partition("-")
        if not low.strip().isdecimal() or (dash and not high.strip().isdecimal()):
            raise RequestError(f"--mlps {text!r} is not understood: use all, none, or layers such as 0,2-5")
        layers.update(range(int(low), int(high or low) + 1))
    beyond = [layer for layer in layers if layer >= n_layers]
    if beyond:
        raise RequestError(f"--mlps names layer {beyond[0]}, but the model has layers 0..{n_layers - 1}")
    return tuple(sorted(layers))


def curve_sizes(n_heads: int) -> list[int]:
    """Circuit sizes a curve is drawn at: every size up to 32 heads, then 24 log-spaced ones."""
    if n_heads <= 32:
        return list(range(n_heads + 1))
    return sorted({0, n_heads, *np.unique(np.round(np.geomspace(1, n_heads, 24)).astype(int)).tolist()})


def masks_of(circuits: list[tuple[tuple[Head, ...], tuple[int, ...]]], n_layers: int, n_heads: int) -> CircuitMasks:
    """Masks of circuits given as (heads kept, MLP layers kept)."""
    heads = torch.zeros(len(circuits), n_layers, n_heads, dtype=torch.bool)
    mlps = torch.zeros(len(circuits), n_layers, dtype=torch.bool)
    for row, (kept, layers) in enumerate(circuits):
        for head in kept:
            heads[row, head.layer, head.index] = True
        mlps[row, list(layers)] = True
    return CircuitMasks(heads, mlps)
