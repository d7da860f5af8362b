"""The main job from Python: what the command line does, as two functions."""

from pathlib import Path

import numpy as np

from arithcirc.arithmetic.operators import OperandRange, legal_prompts, operator
from arithcirc.arithmetic.pairs import Counterfactual, Pairs, counterfactuals, legal_pool, select_distinct
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.config import (
    CircuitConfig,
    HeuristicConfig,
    KnockoutConfig,
    MapsConfig,
    NeuronConfig,
    ProbeConfig,
    PromptConfig,
)
from arithcirc.errors import PromptError
from arithcirc.measure.answers import find_correct
from arithcirc.models.protocol import HookedModel
from arithcirc.pipeline.job import Report, open_job, silent
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.store import RunFolder


def analyze(
    model: HookedModel,
    out: Path | str,
    *,
    prompts: PromptConfig | None = None,
    circuit: CircuitConfig | None = None,
    probe: ProbeConfig | None = None,
    neurons: NeuronConfig | None = None,
    heuristics: HeuristicConfig | None = None,
    knockout: KnockoutConfig | None = None,
    maps: MapsConfig | None = None,
    pairs_file: Path | None = None,
    batch_size: int = 2048,
    report: Report = silent,
    upto: str | None = None,
) -> RunFolder:
    """Run every stage into `<out>/<model>/<revision>` and return the run; finished stages are reused.

    `upto` names a stage to stop at: it and what it needs are run.
    """
    stages = stages_for(*([upto] if upto else []))
    job = open_job(
        model,
        Path(out),
        prompts=prompts or PromptConfig(),
        circuit=circuit,
        probe=probe,
        neurons=neurons,
        heuristics=heuristics,
        knockout=knockout,
        maps=maps,
        pairs_file=pairs_file,
        batch_size=batch_size,
        sections=list(dict.fromkeys(section for stage in stages for section in stage.sections)),
        report=report,
    )
    run_stages(job, stages)
    return job.run


def sample_pairs(
    model: HookedModel,
    encoder: PromptEncoder,
    symbol: str,
    n: int = 100,
    *,
    operands: OperandRange | None = None,
    change: Counterfactual = Counterfactual.ANY,
    seed: int = 0,
    batch_size: int = 2048,
) -> Pairs:
    """Up to n prompts of an operator that the model answers correctly, each with a counterfactual.

    Raises PromptError when the model answers none of them.
    """
    op, values, rng = operator(symbol), operands or OperandRange(), np.random.default_rng(seed)
    legal = legal_prompts(op, values, encoder.limit)
    answers = find_correct(model, encoder, op, legal, wanted=n, at_least=2 * n, batch_size=batch_size, rng=rng)
    right = answers.tried[answers.correct]
    if not len(right):
        raise PromptError(
            f"{model.info.name} answers none of {len(answers.tried)} {symbol} prompts: try easier operands"
        )
    clean = right[select_distinct(right, n, rng)]
    drawn, found = counterfactuals(clean, legal_pool(values, encoder.limit), rng, change=change)
    return Pairs(clean[found], drawn[found])
