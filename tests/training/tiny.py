"""Recipes that train in a second: 20 operands, two layers of width 32, float32."""

from dataclasses import replace

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.training.recipe import Recipe

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
