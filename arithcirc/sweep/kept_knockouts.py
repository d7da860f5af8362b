"""What a checkpoint's answers need: knocking out, prompt by prompt, neurons whose labels the reference has or has not.

As heuristics.by_prompt, on the evaluate prompts (all answered correctly, so accuracy before is 1) and among the
checkpoint's important neurons. Of each layer at most n = 5, 10 or 25 neurons are replaced at `=`, best score first:

    targeted  neurons of heuristics that hold of the prompt
    kept      neurons with a heuristic that holds of it and that the reference gives the same neuron too
    new       neurons with heuristics that hold of it, none of which the reference gives them

and beside each as many random important neurons of the same layers that it did not choose (random, random_kept,
random_new); p is McNemar's, of an arm's random control against it. Ablations: zero (the paper's) and mean.
kept and new differ in size: compare each with its own control, not with each other.
Source: Nikankin et al. 2024 (arXiv 2410.21272), the section on training dynamics; spec section 8 (c).
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float

from arithcirc.arithmetic.operators import Prompts
from arithcirc.components import Neuron
from arithcirc.heuristics.arms import Replacements
from arithcirc.heuristics.by_prompt import Sets, Sweep, knock_out_sets, nested_others, ranked
from arithcirc.heuristics.labelled import Labelled
from arithcirc.measure.knockout import mean_values, stack_values, zero_values
from arithcirc.measure.means import Means
from arithcirc.models.protocol import HookedModel
from arithcirc.pipeline.job import Job
from arithcirc.sweep.kept import LabelRows

PER_LAYER = (5, 10, 25)
ALONE: dict[str, str | None] = {"targeted": None, "random": "targeted"}
COMPARED: dict[str, str | None] = {**ALONE, "kept": None, "random_kept": "kept", "new": None, "random_new": "new"}


def arms(*, compared: bool) -> Sweep:
    """What is swept; without a reference to compare with, targeted and random."""
    return Sweep(PER_LAYER, COMPARED if compared else ALONE, ("zero", "mean"))


def zero_or_mean(model: HookedModel, means: Means) -> Replacements:
    """The two replacements; nothing is resampled."""
    values = stack_values([zero_values(model), mean_values(model, means)])
    return Replacements(values, np.empty(0, dtype=np.int64))


def kept_knockouts(
    job: Job,
    evaluate: Prompts,
    rows: LabelRows,
    important: Iterable[Neuron],
    replaced: Replacements,
    rng: np.random.Generator,
    *,
    compared: bool,
    progress: Callable[[int], None],
) -> pd.DataFrame:
    """One row per ablation, arm and size; the columns of the table `knockouts_by_prompt` without operator."""
    matter = pd.DataFrame([(n.layer, n.index) for n in important], columns=["layer", "neuron"])
    right = np.ones(len(evaluate), dtype=bool)
    every, kept = (Labelled.of(part, matter, evaluate, right) for part in (rows.every, rows.kept))
    prompts = np.arange(len(evaluate))
    holding, shared = every.best(prompts), kept.best(prompts)

    def choose(row: int) -> Sets:
        return arm_sets(every, holding[row], shared[row], rng, compared=compared)

    return knock_out_sets(
        job.model, job.encoder, every, replaced, prompts, choose, rng,
        sweep=arms(compared=compared), batch_size=job.batch_size, progress=progress,
    )  # fmt: skip


def arm_sets(
    labels: Labelled,
    holding: Float[np.ndarray, "neuron"],
    shared: Float[np.ndarray, "neuron"],
    rng: np.random.Generator,
    *,
    compared: bool,
) -> Sets:
    """One prompt's sets, size-major then arm.

    `holding` and `shared` are each neuron's best score among its heuristics that hold of the prompt, and among those of
    them that the reference has too (0: none).
    """
    layers = labels.layers
    scores = [holding]
    if compared:
        scores += [shared, np.where(shared > 0, 0.0, holding)]
    places = [ranked(layers, score, score > 0) for score in scores]
    shuffle = rng.random(len(holding))
    sets = []
    for n in PER_LAYER:
        for place in places:
            chosen = place < n
            sets += [labels.neurons[chosen], labels.neurons[nested_others(layers, chosen, shuffle)]]
    return sets
