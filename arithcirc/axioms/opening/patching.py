"""Which tokens carry what a minimal pair differs in, layer by layer: exact activation patching.

Of each pair one prompt is run with activations of the other put in at a role's tokens. With the margin m, logit of Yes
minus that of No,

    effect = mean (m(patched) - m(run)) / mean (m(other) - m(run)),   signs such that the denominator is towards other

0: nothing of the difference passes here, 1: all of it. Every second pair is run from its No prompt. Roles of the
premise are counted in sentences from the one that differs (`offset`, 0 for itself); tokens before it are equal, so
nothing is there. Components: `residual` (input of block `layer`; the layer after the last is the final residual),
`attention` (all heads of a layer), `head` and `mlp` (outputs). Effects of components do not add up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from arithcirc.axioms.opening.layout import QUESTION_ROLES, SENTENCE_ROLES, Layout, layout_of, token_rows
from arithcirc.axioms.opening.minimal_pairs import KINDS, MinimalPair, minimal_pairs
from arithcirc.axioms.opening.opened import Opened
from arithcirc.axioms.opening.replay import Replay, ratio


@dataclass(frozen=True)
class Site:
    """Tokens of a role in every prompt; `offset` in sentences from the one that differs, None for the question."""

    role: str
    offset: int | None
    where: Bool[Tensor, "prompt pos"]


def patching(
    opened: Opened, *, nodes: int, pairs: int, seed: int, progress: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """Columns: pair, component, layer, head, role, offset, pairs, effect, se. `progress` counts kinds of pairs."""
    parts = []
    for kind in KINDS:
        made = minimal_pairs(kind, nodes, pairs, seed=seed, names=opened.names)
        parts.append(patch_pairs(opened, made))
        if progress is not None:
            progress(1)
    return pd.concat(parts, ignore_index=True)


def sites(pairs: Sequence[MinimalPair], layout: Layout) -> list[Site]:
    """The roles at which pairs can differ, in the order of the prompt."""
    found = []
    if any(pair.changed is not None for pair in pairs):
        for offset in range(layout.sentences):
            for role in SENTENCE_ROLES:
                where = torch.zeros(len(pairs), layout.tokens, dtype=torch.bool)
                for row, pair in enumerate(pairs):
                    number = None if pair.changed is None else pair.changed + offset
                    if number is not None and number < layout.sentences:
                        where[row, list(layout.sentence(number, role))] = True
                if where.any():
                    found.append(Site(role, offset, where))
    for role in QUESTION_ROLES:
        where = torch.zeros(len(pairs), layout.tokens, dtype=torch.bool)
        where[:, list(layout.question(role))] = True
        found.append(Site(role, None, where))
    return found


def patch_pairs(opened: Opened, pairs: Sequence[MinimalPair]) -> pd.DataFrame:
    """The table of pairs of one kind, see `patching`."""
    known, info = opened.asked.known, opened.hooked.info
    layout = layout_of([pair.yes for pair in pairs], opened.characters)
    runs, others = zip(*((p.yes, p.no) if i % 2 == 0 else (p.no, p.yes) for i, p in enumerate(pairs)), strict=True)
    replay = Replay(opened.hooked, token_rows(runs, known), opened.margin)
    other = opened.hooked.record(token_rows(others, known), parts=("z", "post"))
    gap = opened.margin(other.logits) - replay.margin
    sign = torch.tensor([-1.0 if asked.label else 1.0 for asked in runs], dtype=torch.float64)
    places = sites(pairs, layout)
    where = torch.stack([site.where for site in places])
    rows = []

    def add(component: str, layer: int, head: int | None, margins: Tensor) -> None:
        for site, margin in zip(places, margins, strict=True):
            there = site.where.any(1)
            effect, error = ratio((sign * (margin - replay.margin))[there], (sign * gap)[there])
            rows.append(
                (pairs[0].kind, component, layer, head, site.role, site.offset, int(there.sum()), effect, error)
            )

    for layer in range(info.n_layers):
        add("residual", layer, None, replay.residual(layer, other.resid[layer], where))
        z, post = other.activations.z[layer], other.activations.post[layer]
        add("attention", layer, None, replay.heads(layer, z, where[..., None].expand(*where.shape, info.n_heads)))
        for head in range(info.n_heads):
            mine = torch.arange(info.n_heads) == head
            add("head", layer, head, replay.heads(layer, z, where[..., None] & mine))
        add("mlp", layer, None, replay.mlp(layer, post, where))
    add("residual", info.n_layers, None, replay.residual(info.n_layers, other.resid[info.n_layers], where))
    columns = ["pair", "component", "layer", "head", "role", "offset", "pairs", "effect", "se"]
    return pd.DataFrame(rows, columns=columns).astype({"head": "Int64", "offset": "Int64"})
