"""Recipes that train in a second: two layers of width 32, float32; of 20 operands, and of random texts."""

from dataclasses import replace

import numpy as np

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.training.recipe import Recipe
from arithcirc.training.text_data import Texts
from arithcirc.training.text_recipe import TextRecipe

TINY = Recipe(
    name="tiny",
    operands=OperandRange(0, 19),
    limit=40,
    layers=2,
    width=32,
    heads=2,
    mlp_width=64,
    steps=24,
    rows=8,
    suffixes=4,
    warmup_steps=4,
    precision="fp32",
    resume_every=6,
    train_sample=50,
    keep=(0, 8),
)
EXACT = replace(TINY, disk_dtype="float32")

TINY_TEXT = TextRecipe(
    name="tiny-text",
    layers=2,
    width=32,
    heads=2,
    mlp_width=64,
    positions=64,
    max_tokens=64,
    steps=20,
    documents_per_step=8,
    warmup_steps=2,
    measure_every=10,
    resume_every=10,
    keep=(0,),
)


def tiny_texts() -> Texts:
    """40 documents of 6 to 24 random tokens after BOS."""
    rng = np.random.default_rng(0)
    rows = [[0, *rng.integers(2, 30, size=rng.integers(5, 24)).tolist()] for _ in range(40)]
    return Texts.of(rows, vocabulary=30, bos=0, pad=1)
