"""A recipe that trains in a second: two layers of width 32 on chains of two to four nodes."""

from arithcirc.axioms.recipe import AxiomRecipe

TINY_AXIOM = AxiomRecipe(
    name="tiny-axiom",
    chain_lengths=(3, 4),
    graphs_per_step=8,
    questions_per_graph=4,
    curriculum_steps=12,
    layers=2,
    width=32,
    heads=2,
    mlp_width=64,
    positions=128,
    dropout=0.1,
    steps=16,
    warmup_steps=2,
    measure_every=8,
    resume_every=6,
    exam_questions=20,
)
