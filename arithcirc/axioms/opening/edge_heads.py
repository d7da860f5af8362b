"""Heads that follow an edge: from a mention of a node to the sentences in which that node is the cause, or the effect.

A query is the last token of a role: a sentence's cause, effect or full stop, or the question's cause, effect or mark.
It follows one node: its own, and at a full stop or mark the cause (`node` = cause) or effect of what ends there.
Its targets are the earlier sentences in which that node is the cause (`target` = "as cause") or the effect. Queries
with fewer than two earlier sentences, or without a target, are left out. Per head:

    attention   mass on all tokens of the target sentences
    share       that mass, over the mass on all earlier sentences
    base_rate   number of target sentences over number of earlier ones: the share of attention that is uniform
    excess      attention less base_rate x the mass on all earlier sentences: what follows edges, in attention
    effect      how far m = margin towards the answer falls when these edges of this head alone are cut before the
                softmax, exact, over the mean m: 0 nothing, 1 the margin is gone. `right` is the accuracy then.

In chains written in order the target of a sentence's own nodes is the sentence before, so a head that merely looks one
sentence back has a share of 1: shuffled chains tell the two apart, and so do the question's queries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from einops import einsum, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from arithcirc.axioms.graphs import Question
from arithcirc.axioms.opening.layout import Layout, layout_of, token_rows
from arithcirc.axioms.opening.opened import Opened
from arithcirc.axioms.opening.replay import Replay, ratio

QUERIES = (
    ("cause", ("cause",)),
    ("effect", ("effect",)),
    ("stop", ("cause", "effect")),
    ("asked cause", ("cause",)),
    ("asked effect", ("effect",)),
    ("mark", ("cause", "effect")),
)
"""Roles of queries and the nodes they may follow."""
FEWEST_SENTENCES = 2


@dataclass(frozen=True)
class Relation:
    """A kind of edge, where it is, and how many sentences stand before a query."""

    query: str
    node: str
    target: str
    targets: Bool[Tensor, "prompt pos sentence"]
    earlier: Float[Tensor, "pos"]


def relations(questions: Sequence[Question], layout: Layout) -> list[Relation]:
    """All kinds of edges of some questions."""
    found = []
    for query, nodes in QUERIES:
        asked = query in ("asked cause", "asked effect", "mark")
        for node in nodes:
            for side, target in enumerate(("as cause", "as effect")):
                targets = torch.zeros(len(questions), layout.tokens, layout.sentences, dtype=torch.bool)
                earlier = torch.zeros(layout.tokens)
                places = [layout.sentences] if asked else range(FEWEST_SENTENCES, layout.sentences)
                for number in places:
                    index = (layout.question(query) if asked else layout.sentence(number, query))[-1]
                    earlier[index] = number
                    for row, question in enumerate(questions):
                        own = (question.cause, question.effect) if asked else question.graph.edges[number]
                        name = own[node == "effect"]
                        for before in range(number):
                            targets[row, index, before] = question.graph.edges[before][side] == name
                found.append(Relation(query, node, target, targets, earlier))
    return found


def edge_heads(
    opened: Opened,
    questions: Sequence[Question],
    *,
    name: str,
    cut: int,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Columns: questions, layer, head, query, node, target, n, attention, share, base_rate, excess, effect, se, right.

    `cut`: of how many questions the edges are cut; effect, se and right are of these. `progress` counts layers.
    """
    layout, known, info = layout_of(questions, opened.characters), opened.asked.known, opened.hooked.info
    tokens = token_rows(questions, known)
    patterns = opened.hooked.activations(tokens, parts=("pattern",)).pattern
    kinds = [kind for kind in relations(questions, layout) if kind.targets.any()]
    some = questions[:cut]
    replay = Replay(opened.hooked, tokens[:cut], opened.margin)
    sign = torch.tensor([1.0 if asked.label else -1.0 for asked in some], dtype=torch.float64)
    rows = []
    for layer in range(info.n_layers):
        pattern = patterns[layer].cpu()
        for kind in kinds:
            attention, share, excess, base, n = _attention(pattern, kind, layout)
            margins = sign * _cut(replay, layer, kind, layout)
            for head in range(info.n_heads):
                effect, error = ratio(sign * replay.margin - margins[head], sign * replay.margin)
                right = float((margins[head] > 0).double().mean())
                seen = (float(attention[head]), float(share[head]), base, float(excess[head]))
                rows.append((name, layer, head, kind.query, kind.node, kind.target, n, *seen, effect, error, right))
        if progress is not None:
            progress(1)
    columns = ["questions", "layer", "head", "query", "node", "target", "n", "attention", "share", "base_rate"]
    return pd.DataFrame(rows, columns=[*columns, "excess", "effect", "se", "right"])


def _spread(kind: Relation, layout: Layout) -> Bool[Tensor, "prompt query key"]:
    """The edges of a kind as pairs of tokens."""
    keys = kind.targets.repeat_interleave(layout.sentence_tokens, dim=-1)
    rest = torch.zeros(*keys.shape[:2], layout.tokens - keys.shape[-1], dtype=torch.bool)
    return torch.cat([keys, rest], dim=-1)


def _attention(
    pattern: Float[Tensor, "prompt head query key"], kind: Relation, layout: Layout
) -> tuple[Float[Tensor, "head"], Float[Tensor, "head"], Float[Tensor, "head"], float, int]:
    """Mean mass on targets, its share and its excess, per head; mean base rate and number of queries."""
    prompt, query = kind.targets.any(-1).nonzero().unbind(-1)
    mass = pattern[prompt, :, query, : layout.sentences * layout.sentence_tokens]
    mass = reduce(mass, "query head (sentence token) -> query head sentence", "sum", sentence=layout.sentences)
    targets, earlier = kind.targets[prompt, query], kind.earlier[query]
    before = torch.arange(layout.sentences) < earlier[:, None]
    hit = (mass * targets[:, None]).sum(-1)
    total = (mass * before[:, None]).sum(-1)
    base = targets.sum(-1) / earlier
    excess = (hit - total * base[:, None]).mean(0)
    return hit.mean(0), hit.mean(0) / total.mean(0).clamp_min(1e-12), excess, float(base.mean()), len(prompt)


def _cut(replay: Replay, layer: int, kind: Relation, layout: Layout) -> Float[Tensor, "head prompt"]:
    """Margins with the edges of a kind cut out of one head at a time."""
    clean = replay.clean
    n_prompts, n_heads = clean.activations.pattern[layer].shape[:2]
    edges = _spread(kind, layout)[:n_prompts].to(clean.logits.device)
    z = without_edges(clean.activations.pattern[layer], clean.values[layer], edges)
    where = edges.any(-1)[None, :, :, None] & torch.eye(n_heads, dtype=torch.bool, device=edges.device)[:, None, None]
    return replay.heads(layer, z, where)


def without_edges(
    pattern: Float[Tensor, "prompt head query key"],
    values: Float[Tensor, "prompt kv_head key d_head"],
    edges: Bool[Tensor, "prompt query key"],
) -> Float[Tensor, "prompt query head d_head"]:
    """Each head's output with some edges masked out before its softmax; zero where nothing is left to attend to."""
    left = pattern.masked_fill(edges[:, None], 0.0)
    left = left / left.sum(-1, keepdim=True).clamp_min(1e-30)
    shared = values.repeat_interleave(pattern.shape[1] // values.shape[1], dim=1)
    return einsum(left, shared, "prompt head query key, prompt head key d -> prompt query head d")
