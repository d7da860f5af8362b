"""The recipe of a small model that learns an axiom: everything that decides its weights, in one frozen value.

`paper` is the published one: 12 layers of width 512, one question per example, 175,000 examples 100 times over, AdamW
at a constant rate. `small` trains in about three minutes on one core. What it does otherwise, and why: several
questions share a row (packing.py), which gives twice the labels per second; chains grow from 2 nodes to 6 within
`curriculum_steps`, without which balanced answers leave it at chance for long; matrices are updated by Muon with weight
decay, which learns flipped chains in fewer than half the steps of AdamW; examples never repeat, since some thousand
of them are learned by heart.

Which step reads which examples follows from the recipe alone (course.py). Device and threads are not here. Needs no
torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arithcirc.axioms.mixes import MIXES
from arithcirc.axioms.names import LONGEST_NAME, Names
from arithcirc.training.fields import (
    Checkpointed,
    check_counts,
    check_optimizer,
    check_steps,
    load_fields,
    read_fields,
    reals,
    refuse,
    wholes,
)
from arithcirc.training.positions import POSITION_KINDS

VOCABULARIES = (69, 70)


@dataclass(frozen=True)
class AxiomRecipe(Checkpointed):
    """Data, architecture, optimisation and checkpoints of one training run. Raises RequestError when unusable."""

    name: str = "axiom-small"
    # data; `examples` 0: always new ones, else so many graphs, read again in the same order
    mix: str = "TS2"
    name_lengths: tuple[int, int] = (1, 1)
    chain_lengths: tuple[int, int] = (3, 6)
    vocab: int = 70
    examples: int = 0
    graphs_per_step: int = 32
    questions_per_graph: int = 8
    curriculum_from: int = 2
    curriculum_steps: int = 900
    # architecture
    position_kind: str = "none"
    layers: int = 6
    width: int = 64
    heads: int = 4
    mlp_width: int = 256
    positions: int = 1024
    init_std: float = 0.06
    embedding_std: float = 1.0
    dropout: float = 0.0
    # optimisation; gradient_clip 0: none
    seed: int = 0
    steps: int = 1800
    optimizer: str = "muon"
    muon_learning_rate: float = 0.02
    learning_rate: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.98)
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.1
    gradient_clip: float = 1.0
    schedule: str = "cosine"
    warmup_steps: int = 50
    precision: str = "fp32"
    # checkpoints
    disk_dtype: str = "float32"
    measure_every: int = 600
    extra_steps: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()
    resume_every: int = 500
    exam_questions: int = 200

    def __post_init__(self) -> None:
        _check_data(self)
        check_optimizer(self, unclipped=True)
        _check_shape(self)
        check_steps(self)

    @property
    def questions_per_step(self) -> int:
        """Answers that enter the loss of one step."""
        return self.graphs_per_step * self.questions_per_graph

    def longest_chain(self, step: int) -> int:
        """Nodes of the longest chains that a step may read: they grow evenly over the curriculum."""
        longest = self.chain_lengths[1]
        if step >= self.curriculum_steps:
            return longest
        return self.curriculum_from + (longest - self.curriculum_from + 1) * step // self.curriculum_steps

    def shortest_chain(self, step: int) -> int:
        """Nodes of the shortest chains that a step reads."""
        return min(self.chain_lengths[0], self.longest_chain(step))

    def regular_steps(self) -> range:
        """Every `measure_every`."""
        return range(self.measure_every, self.steps + 1, self.measure_every)

    def shortened(self, steps: int) -> "AxiomRecipe":
        """The same recipe for fewer or more steps, its curriculum with it; kept steps beyond the end are dropped."""
        curriculum = self.curriculum_steps * min(steps, self.steps) // self.steps
        return replace(super().shortened(steps), curriculum_steps=curriculum)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "AxiomRecipe":
        """The inverse of `to_json`; fields left out take their defaults. Raises RequestError naming the field."""
        made: AxiomRecipe = read_fields(cls, data, {"betas": reals, "name_lengths": wholes, "chain_lengths": wholes})
        return made


def _check_data(recipe: AxiomRecipe) -> None:
    positive = ("graphs_per_step", "questions_per_graph", "layers", "width", "heads", "mlp_width", "positions")
    schedule = ("steps", "measure_every", "resume_every", "exam_questions")
    check_counts(recipe, (*positive, *schedule), ("seed", "examples", "curriculum_steps", "warmup_steps"))
    if recipe.mix not in MIXES:
        refuse(recipe, "mix", f"one of {', '.join(MIXES)}")
    for name, low, high in (("name_lengths", 1, LONGEST_NAME), ("chain_lengths", 2, recipe.positions)):
        values = getattr(recipe, name)
        if len(values) != 2 or not low <= values[0] <= values[1] <= high:
            refuse(recipe, name, f"two numbers from {low} to {high}, ascending")
    Names(*recipe.name_lengths).check(recipe.chain_lengths[1])
    if not 2 <= recipe.curriculum_from <= recipe.chain_lengths[1]:
        refuse(recipe, "curriculum_from", f"between 2 and {recipe.chain_lengths[1]}, the longest chain")
    if recipe.examples and recipe.curriculum_steps:
        refuse(recipe, "curriculum_steps", "0 where examples are read again")
    if recipe.questions_per_graph > 1 and recipe.questions_per_graph % 2:
        refuse(recipe, "questions_per_graph", "1 or an even number, half Yes and half No")
    if recipe.exam_questions % 2:
        refuse(recipe, "exam_questions", "an even number, half Yes and half No")
    if recipe.vocab not in VOCABULARIES:
        refuse(recipe, "vocab", " or ".join(map(str, VOCABULARIES)))


def _check_shape(recipe: AxiomRecipe) -> None:
    if recipe.position_kind not in POSITION_KINDS:
        refuse(recipe, "position_kind", f"one of {', '.join(POSITION_KINDS)}")
    for name in ("init_std", "embedding_std", "adam_epsilon"):
        if not 0 < getattr(recipe, name) < float("inf"):
            refuse(recipe, name, "a positive number")
    if not 0 <= recipe.dropout < 1:
        refuse(recipe, "dropout", "0 or more and below 1")
    if recipe.width % recipe.heads:
        refuse(recipe, "heads", f"a divisor of width {recipe.width}")
    if recipe.position_kind == "rotary" and recipe.width // recipe.heads % 2:
        refuse(recipe, "heads", "such that a head has an even number of dimensions, turned in pairs")
    longest = question_tokens(recipe.chain_lengths[1], recipe.name_lengths[1])
    if recipe.positions < longest:
        refuse(recipe, "positions", f"at least {longest}, the longest question it is trained on")


def question_tokens(nodes: int, characters: int) -> int:
    """Tokens of a question about a chain whose names have so many characters each."""
    return (nodes - 1) * (2 * characters + 2) + 2 * characters + 3


PAPER_STEPS = 175_000 * 100 // 128

AXIOM_PRESETS: dict[str, AxiomRecipe] = {
    "small": AxiomRecipe(keep=(0,)),
    "paper": AxiomRecipe(
        name="axiom-paper",
        name_lengths=(1, 3),
        examples=175_000,
        graphs_per_step=128,
        questions_per_graph=1,
        curriculum_steps=0,
        layers=12,
        width=512,
        heads=8,
        mlp_width=2048,
        positions=7000,
        init_std=0.02,
        dropout=0.1,
        seed=42,
        steps=PAPER_STEPS,
        optimizer="adamw",
        learning_rate=1e-4,
        betas=(0.9, 0.999),
        adam_epsilon=1e-6,
        weight_decay=0.0,
        gradient_clip=0.0,
        schedule="constant_with_warmup",
        warmup_steps=0,
        precision="bf16",
        measure_every=PAPER_STEPS // 20,
        keep=(PAPER_STEPS // 20,),
        resume_every=2000,
        exam_questions=500,
    ),
}


def load_axiom_recipe(source: str | Path) -> AxiomRecipe:
    """A preset by name, a JSON file, or the recipe.json in a model folder. Raises RequestError."""
    return load_fields(source, AXIOM_PRESETS, AxiomRecipe.from_json, like='"mix": "TS2", "position_kind": "none"')
