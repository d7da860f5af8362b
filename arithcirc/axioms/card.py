"""The data card of a model that learned an axiom: README.md for people and card.json for programs, from the run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from arithcirc.axioms.exam import AxiomGrade
from arithcirc.axioms.recipe import AxiomRecipe
from arithcirc.store import versions, write_json, write_text
from arithcirc.training.machine import Machine, markdown_table

_POSITIONS = {
    "none": "no positions (a table of zeros that stays fixed)",
    "learned": "learned positions",
    "sinusoidal": "fixed sinusoidal positions",
    "rotary": "rotary positions on all dimensions",
}


def write_card(
    recipe: AxiomRecipe, parameters: int, out: Path, rows: tuple[AxiomGrade, ...], seconds: float, machine: Machine
) -> None:
    """Write card.json and README.md into the model folder. `parameters`: those that are trained."""
    packages = versions()
    card: dict[str, Any] = {
        "name": recipe.name,
        "architecture": "GPTNeoXForCausalLM" if recipe.position_kind == "rotary" else "GPT2LMHeadModel",
        "position_kind": recipe.position_kind,
        "parameters": parameters,
        "questions": recipe.steps * recipe.questions_per_step,
        "checkpoints": list(recipe.kept_steps()),
        "final": {row.cell: round(row.value, 6) for row in rows if row.step == recipe.steps},
        "wall_seconds": round(seconds, 1),
        "machine": asdict(machine),
        "versions": {name: packages[name] for name in ("torch", "transformers") if name in packages},
    }
    write_text(out / "README.md", _readme(recipe, card, rows, machine))
    write_json(out / "card.json", card)


def _readme(recipe: AxiomRecipe, card: dict[str, Any], rows: tuple[AxiomGrade, ...], machine: Machine) -> str:
    data = f"{recipe.examples:,} examples, read again and again" if recipe.examples else "new examples at every step"
    shortest, longest = recipe.chain_lengths
    return f"""# {recipe.name}

A decoder with {_POSITIONS[recipe.position_kind]} ({card["architecture"]}, untied embeddings), trained from scratch to
answer whether one node of a causal graph causes another. It has read chains of {shortest} to {longest} nodes.

- {recipe.layers} layers, width {recipe.width}, {recipe.heads} heads, MLP width {recipe.mlp_width}: \
{card["parameters"]:,} trained parameters, stored as {recipe.disk_dtype}.
- Mix {recipe.mix}, names of {recipe.name_lengths[0]} to {recipe.name_lengths[1]} characters, {data}; up to \
{recipe.questions_per_graph} question(s) a graph, half Yes and half No; the loss is read at the question marks alone.
- {recipe.steps:,} steps of up to {recipe.questions_per_step:,} questions, optimiser {recipe.optimizer}, \
{recipe.schedule} schedule, {recipe.precision}, dropout {recipe.dropout:g}, seed {recipe.seed}: all of it in \
`recipe.json`.
- {card["wall_seconds"] / 60:.1f} minutes with measuring and saving, on {machine}.

## Accuracy

Most likely next token of the whole vocabulary against Yes or No, one graph per question, half of the answers Yes, by
the weights read back from disk in float32. Folders are kept for the steps in bold.

{_table(recipe, rows)}

## Limits

Chance is .5 once it says Yes or No. On sequential chains the order of first mention gives the answer at any length, so
accuracy there says nothing about transitivity; flipped and reversed chains do.
"""


def _table(recipe: AxiomRecipe, rows: tuple[AxiomGrade, ...]) -> str:
    found = {(row.step, row.cell): row.value for row in rows}
    names = list(dict.fromkeys(row.cell for row in rows))
    body = []
    for step in sorted({row.step for row in rows}):
        label = f"**{step}**" if step in recipe.kept_steps() else str(step)
        body.append([label, *(f"{found[step, name]:.3f}" for name in names)])
    return markdown_table(["step", *names], body)
