"""The data card of a trained model: README.md for people and card.json for programs, both made from the run.

It tells the recipe, the counts of the split, the share of the most frequent answer (what a model scores by always
saying that number), accuracy per operator and checkpoint, the time and the machine in general words, and the command
that makes the model again. Numbers come from the split and `accuracy.json`; nothing is written by hand.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from arithcirc.arithmetic.operators import OPERATORS, base_rate, legal_prompts
from arithcirc.store import write_json, write_text
from arithcirc.training.data import split
from arithcirc.training.evaluate import HELD_OUT, TRAIN, Accuracy
from arithcirc.training.machine import Machine, markdown_table
from arithcirc.training.model import build_model
from arithcirc.training.recipe import PRESETS, Recipe


@dataclass(frozen=True)
class OperatorCounts:
    """Prompts of one operator and the share of its most frequent answer among the held-out ones."""

    operator: str
    legal: int
    train: int
    held_out: int
    base_rate: float


def counts(recipe: Recipe) -> tuple[OperatorCounts, ...]:
    """The split in numbers, operator by operator."""
    rows = []
    for op in OPERATORS:
        train, held_out = split(recipe, op)
        legal = len(legal_prompts(op, recipe.operands, recipe.limit))
        rows.append(OperatorCounts(op.symbol, legal, len(train), len(held_out), round(base_rate(held_out), 4)))
    return tuple(rows)


def command(recipe: Recipe, threads: int) -> str:
    """The command that makes this model; `recipe.json` is the file beside the card when no preset is meant."""
    source = recipe.name if PRESETS.get(recipe.name) == recipe else "recipe.json"
    return f"arithcirc train --recipe {source} --threads {threads} --out OUT"


def write_card(recipe: Recipe, out: Path, rows: tuple[Accuracy, ...], seconds: float, machine: Machine) -> None:
    """Write card.json and README.md into the model folder."""
    card: dict[str, Any] = {
        "name": recipe.name,
        "licence": "MIT",
        "architecture": "GPTNeoXForCausalLM",
        "parameters": sum(p.numel() for p in build_model(recipe).parameters()),
        "counts": [asdict(row) for row in counts(recipe)],
        "checkpoints": list(recipe.kept_steps()),
        "final": {
            part: {r.operator: round(r.value, 6) for r in rows if r.step == recipe.steps and r.part == part}
            for part in (HELD_OUT, TRAIN)
        },
        "wall_seconds": round(seconds, 1),
        "machine": asdict(machine),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "command": command(recipe, machine.threads),
    }
    write_text(out / "README.md", _readme(recipe, card, rows, machine))
    write_json(out / "card.json", card)


def _readme(recipe: Recipe, card: dict[str, Any], rows: tuple[Accuracy, ...], machine: Machine) -> str:
    split_table = markdown_table(
        ["operator", "legal prompts", "train", "held out", "most frequent answer"],
        [
            [f"`{c['operator']}`", *(f"{c[k]:,}" for k in ("legal", "train", "held_out")), f"{c['base_rate']:.3f}"]
            for c in card["counts"]
        ],
    )
    minutes = card["wall_seconds"] / 60
    return f"""# {recipe.name}

A decoder of the Pythia architecture ({card["architecture"]}: rotary positions, parallel residual, untied embeddings),
trained from scratch on `op1 operator op2 =` and nothing else. Written by `{card["command"]}`.

- {recipe.layers} layers, width {recipe.width}, {recipe.heads} heads, MLP width {recipe.mlp_width}: \
{card["parameters"]:,} parameters, stored as {recipe.disk_dtype}.
- Operands {recipe.operands}, results 0..{recipe.limit}, one token per number; prompts start with one `<|endoftext|>`, \
which the tokenizer does not add by itself.
- {recipe.steps:,} steps of {recipe.prompts_per_step:,} prompts, optimiser {recipe.optimizer}, \
{recipe.schedule} schedule, {recipe.precision}, seed {recipe.seed}: all of it in `recipe.json`.
- {minutes:.1f} minutes with measuring and saving, on {machine}.
- Licence: {card["licence"]}. No text was used: prompts and answers are computed.

## Split

{recipe.held_out_share:.0%} of the legal prompts of each operator, by a seeded key, were never trained on;
`arithcirc.training.data.held_out_mask(recipe, prompts)` tells which. The last column is what a model scores on the
held-out prompts by always giving the most frequent answer.

{split_table}

## Accuracy

Most likely next token against the answer, by the weights read back from disk in float32. Held out: all prompts. Train:
the same {recipe.train_sample:,} prompts of each operator at every step (all, where there are fewer). Folders are kept
for the steps in bold.

{_accuracy_table(recipe, rows)}

## Limits

It has seen four operators on these operands in one template. Numbers above {recipe.limit} are unknown to it, words too;
what it computes by is not what a language model must compute by. Division counts integer quotients, half of them 0.
"""


def _accuracy_table(recipe: Recipe, rows: tuple[Accuracy, ...]) -> str:
    found = {(r.step, r.part, r.operator): r.value for r in rows}
    symbols = [op.symbol for op in OPERATORS]
    columns = [(part, symbol) for part in (HELD_OUT, TRAIN) for symbol in symbols]
    head = ["step", *(f"{'held out' if part == HELD_OUT else 'train'} `{symbol}`" for part, symbol in columns)]
    body = []
    for step in sorted({r.step for r in rows}):
        label = f"**{step}**" if step in recipe.kept_steps() else str(step)
        body.append([label, *(f"{found[step, part, symbol]:.3f}" for part, symbol in columns)])
    return markdown_table(head, body)
