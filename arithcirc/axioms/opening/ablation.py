"""Mean ablation of parts of a model on questions of one layout, and what is left of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.axioms.graphs import Question
from arithcirc.axioms.opening.layout import Layout, layout_of, token_rows
from arithcirc.axioms.opening.opened import Opened
from arithcirc.measure.batches import in_batches
from arithcirc.measure.interventions import CircuitMasks, ablate_to_means
from arithcirc.measure.means import Means
from arithcirc.models.protocol import Edit

BATCH = 512


@dataclass(frozen=True)
class Ablated:
    """Questions of one layout with the means, over these questions, that parts are replaced by."""

    opened: Opened
    questions: tuple[Question, ...]
    layout: Layout
    tokens: Int[Tensor, "prompt pos"]
    sign: Float[Tensor, "prompt"]
    means: Means

    def margins(self, *, edit: Edit | None = None) -> Float[Tensor, "prompt"]:
        """Margin towards the right answer, nats, under an edit that is the same for every prompt."""
        model = self.opened.hooked

        def run(rows: slice) -> Tensor:
            return self.opened.margin(model.logits(self.tokens[rows], edit=edit))

        return self.sign * torch.cat(list(in_batches(len(self.tokens), BATCH, run)))

    def circuits(self, masks: CircuitMasks) -> Float[Tensor, "circuit prompt"]:
        """Margin towards the right answer with everything outside each circuit at its mean."""

        def reduce(logits: Tensor, _: slice) -> Tensor:
            return self.opened.margin(logits)[..., None]

        found = ablate_to_means(self.opened.hooked, self.tokens, masks, self.means, reduce, batch_size=2 * BATCH)
        return self.sign * found[..., 0]


def ablated(opened: Opened, questions: Sequence[Question]) -> Ablated:
    """Questions with their means, in one pass over them. Raises RequestError when they differ in layout."""
    tokens = token_rows(questions, opened.asked.known)
    sign = torch.tensor([1.0 if asked.label else -1.0 for asked in questions], dtype=torch.float64)
    layers = range(opened.hooked.info.n_layers)

    def run(rows: slice) -> tuple[list[Tensor], list[Tensor]]:
        found = opened.hooked.activations(tokens[rows], parts=("z", "post"))
        return [found.z[i].double().sum(0) for i in layers], [found.post[i].double().sum(0) for i in layers]

    parts = list(in_batches(len(tokens), BATCH, run))
    z, post = (
        [torch.stack([part[which][i] for part in parts]).sum(0).div(len(tokens)).float() for i in layers]
        for which in (0, 1)
    )
    means = Means(z, post, len(tokens))
    return Ablated(opened, tuple(questions), layout_of(questions, opened.characters), tokens, sign, means)
