"""The data card of a model trained on a corpus: README.md for people and card.json for programs, made from the run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from arithcirc.influence.train_exam import DOCUMENTS, MAX_NEW_TOKENS, PROMPTS, SAMPLE, Grade, overall
from arithcirc.store import versions, write_json, write_text
from arithcirc.training.machine import Machine, markdown_table
from arithcirc.training.retrain import text_model
from arithcirc.training.text_data import Texts
from arithcirc.training.text_recipe import TextRecipe


def write_card(
    recipe: TextRecipe, texts: Texts, cut: int, out: Path, rows: tuple[Grade, ...], seconds: float, machine: Machine
) -> None:
    """Write card.json and README.md into the model folder. `cut`: documents that were truncated."""
    packages = versions()
    card: dict[str, Any] = {
        "name": recipe.name,
        "architecture": "GPTNeoXForCausalLM",
        "parameters": sum(p.numel() for p in text_model(texts, recipe).parameters()),
        "documents": len(texts),
        "documents_truncated": cut,
        "tokens": len(texts.ids),
        "vocabulary": texts.vocabulary,
        "epochs": round(recipe.steps * recipe.documents_per_step / len(texts), 3),
        "checkpoints": list(recipe.kept_steps()),
        "final": [asdict(row) for row in rows if row.step == recipe.steps],
        "wall_seconds": round(seconds, 1),
        "machine": asdict(machine),
        "versions": {name: packages[name] for name in ("torch", "transformers") if name in packages},
    }
    write_text(out / "README.md", _readme(recipe, card, rows, machine))
    write_json(out / "card.json", card)


def _readme(recipe: TextRecipe, card: dict[str, Any], rows: tuple[Grade, ...], machine: Machine) -> str:
    truncated = f", {card['documents_truncated']:,} of them truncated" if card["documents_truncated"] else ""
    return f"""# {recipe.name}

A decoder of the Pythia architecture ({card["architecture"]}: rotary positions, parallel residual, untied embeddings),
trained from scratch on a corpus whose documents are known. Written by `arithcirc influence train`.

- {recipe.layers} layers, width {recipe.width}, {recipe.heads} heads, MLP width {recipe.mlp_width}: \
{card["parameters"]:,} parameters, stored as {recipe.disk_dtype}.
- {card["documents"]:,} documents{truncated}, {card["tokens"]:,} tokens of a vocabulary of {card["vocabulary"]:,}, \
each document once per epoch as `BOS text end`; sha256 of the documents {recipe.documents_sha256[:16]}.
- {recipe.steps:,} steps of {recipe.documents_per_step} documents ({card["epochs"]:g} epochs), optimiser \
{recipe.optimizer}, {recipe.schedule} schedule, {recipe.precision}, no dropout, seed {recipe.seed}: all of it in \
`recipe.json`.
- {card["wall_seconds"] / 60:.1f} minutes with measuring and saving, on {machine}.

## What it knows

By the weights read back from disk in float32; accuracy.json has every part of it. Documents: a sample of up to \
{SAMPLE}. Queries: the model's own greedy completion of up to {MAX_NEW_TOKENS} tokens, right or wrong. `a+b=`, `a-b=`: \
the most likely next token. Folders are kept for the steps in bold.

{_table(recipe, rows)}

## Limits

Invented text in a few templates. Documents, facts and equations were read many times over: all but `reasoning` says
what was memorised.
"""


def _table(recipe: TextRecipe, rows: tuple[Grade, ...]) -> str:
    groups = list(dict.fromkeys(r.subject for r in rows if r.subject not in (DOCUMENTS, PROMPTS)))
    symbols = list(dict.fromkeys(r.part for r in rows if r.subject == PROMPTS))
    head = ["step", "nats a token", *(g.replace("_", " ") for g in groups), *(f"`a{s}b=`" for s in symbols)]
    body = []
    for step in sorted({row.step for row in rows}):
        found = overall(rows, step, DOCUMENTS)
        line = [f"**{step}**" if step in recipe.kept_steps() else str(step), f"{found.nats:.3f}" if found else "-"]
        asked = [overall(rows, step, g) for g in groups] + [overall(rows, step, PROMPTS, s) for s in symbols]
        body.append(line + [f"{grade.value:.3f}" if grade else "-" for grade in asked])
    return markdown_table(head, body)
