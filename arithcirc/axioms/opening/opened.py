"""A trained step folder, opened twice: with hooks for what happens inside, and as it is for asking questions."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from arithcirc.axioms.asking import AxiomModel, open_model
from arithcirc.axioms.names import ALPHANUMERIC, Names
from arithcirc.axioms.recipe import load_axiom_recipe
from arithcirc.errors import RequestError
from arithcirc.models.load import load
from arithcirc.models.protocol import HookedModel

NODES = 6
"""Nodes of the longest chain that a model without a recipe is taken to have learned."""
FEWEST_NODES = 3
MIX = "TS2"
"""The mix that a model without a recipe is taken to have learned."""


@dataclass(frozen=True)
class Opened:
    """A model with hooks, the same as Hugging Face has it, and the names that questions to it are written with.

    `nodes` are those of the longest chain that it was trained on, `mix` is the name of its training data. All names
    have one length, so that prompts about graphs of as many edges have their tokens at the same places.
    """

    hooked: HookedModel
    asked: AxiomModel
    names: Names
    nodes: int
    mix: str = MIX

    @property
    def characters(self) -> int:
        """Tokens of a name."""
        return self.names.shortest

    def margin(self, logits: Float[Tensor, "*row vocab"]) -> Float[Tensor, "*row"]:
        """Logit of Yes minus that of No, nats, on the processor."""
        known = self.asked.known
        return (logits[..., known["Yes"]] - logits[..., known["No"]]).double().cpu()


def open_folder(folder: Path, *, device: str | None = None) -> Opened:
    """Open a step folder. Raises ModelError for a folder of another vocabulary or of no model.

    Names have the shortest length that the recipe beside the folder trains on, and chains its longest; without a recipe
    these are one character and NODES nodes, and the mix is MIX. Raises RequestError for a recipe whose chains have
    fewer than 3 nodes.
    """
    asked = open_model(folder)
    hooked = load(str(folder), device=device, offline=True)
    length, nodes, mix = _learned(folder)
    alphabet = "".join(c for c in ALPHANUMERIC if c in asked.known)
    asked.network.to(torch.device(str(hooked.device)))
    return Opened(hooked, asked, Names(length, length, alphabet), nodes, mix)


def check_folder(folder: Path) -> None:
    """Raise what `open_folder` would, ModelError or RequestError, without hooks and so in a moment."""
    open_model(folder)
    _learned(folder)


def _learned(folder: Path) -> tuple[int, int, str]:
    """Characters of names, nodes of the longest chain, and mix, from the recipe beside a step folder."""
    recipe = folder.resolve().parent / "recipe.json"
    length, nodes, mix = 1, NODES, MIX
    if recipe.is_file():
        known = load_axiom_recipe(recipe)
        length, nodes, mix = known.name_lengths[0], known.chain_lengths[1], known.mix
    if nodes < FEWEST_NODES:
        raise RequestError(
            f"{folder} has learned chains of {nodes} nodes: give a model of {FEWEST_NODES} nodes or more"
        )
    return length, nodes, mix
