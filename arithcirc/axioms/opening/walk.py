"""One question walked through the circuit: its tokens, who looks where, and when the answer appears.

`walk_margins` reads the final norm and unembedding off the residual at the question's effect and mark after every
layer; what is read so early may lie in directions that later layers do not use as the last one does.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float

from arithcirc.axioms.graphs import Question
from arithcirc.axioms.opening.circuit import Part
from arithcirc.axioms.opening.layout import layout_of, token_rows
from arithcirc.axioms.opening.opened import Opened
from arithcirc.axioms.shortcuts import literal_edge, mention_order
from arithcirc.components import Head

SEEN = 0.02
"""Attention below which an edge is left out."""


def walk(opened: Opened, question: Question, circuit: Sequence[Part]) -> dict[str, pd.DataFrame]:
    """Three tables by name.

    `walk_tokens`: index, token, role, sentence (missing in the question). `walk_attention`: layer, head, query, key,
    attention, of the circuit's heads. `walk_margins`: layers, role, margin (Yes minus No, nats), label, hops.
    """
    layout, known = layout_of([question], opened.characters), opened.asked.known
    tokens = token_rows([question], known)
    clean = opened.hooked.record(tokens, parts=("pattern",))
    words = {number: word for word, number in known.items()}
    placed = [
        (index, words[number], role, sentence)
        for index, (number, (role, sentence)) in enumerate(zip(tokens[0].tolist(), layout.roles(), strict=True))
    ]
    edges = []
    for part in circuit:
        if isinstance(part, Head):
            pattern = clean.activations.pattern[part.layer][0, part.index].cpu()
            for query, key in (pattern >= SEEN).nonzero().tolist():
                edges.append((part.layer, part.index, query, key, float(pattern[query, key])))
    margins = []
    for layer, resid in enumerate(clean.resid):
        for role in ("asked effect", "mark"):
            at = resid[:, layout.question(role)[-1]]
            margin = float(opened.margin(opened.hooked.unembed(at))[0])
            margins.append((layer, role, margin, question.label, question.hops))
    return {
        "walk_tokens": pd.DataFrame(placed, columns=["index", "token", "role", "sentence"]).astype(
            {"sentence": "Int64"}
        ),
        "walk_attention": pd.DataFrame(edges, columns=["layer", "head", "query", "key", "attention"]),
        "walk_margins": pd.DataFrame(margins, columns=["layers", "role", "margin", "label", "hops"]),
    }


def walked_question(questions: Sequence[Question], margins: Float[torch.Tensor, "question"]) -> Question:
    """A Yes of the longest path that is answered rightly (margin towards the answer above 0) where shortcuts fail.

    Order of mention and the literal edge are both wrong on it: its sentences stand last first and no edge between its
    ends is stated. End roles is right there, as on every Yes. Where no such question is answered rightly, any Yes of
    the longest path that is, and else the longest path of all.
    """
    yes = [q for q in questions if q.label]
    right = [q for q, margin in zip(questions, margins.tolist(), strict=True) if q.label and margin > 0]
    hard = [q for q in right if not mention_order(q) and not literal_edge(q)]
    return max(hard or right or yes or list(questions), key=lambda q: q.hops)
