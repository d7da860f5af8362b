"""Stage `births`: the mechanisms of a study at the other checkpoints of its model (see `births`).

The checkpoints are the step folders beside the one that was studied, up to it. Documents are those of the study, or
`sample` of them drawn with the study's seed where there are more; factors and scores of each checkpoint are kept in
`births/<revision>/`, so a stop loses one checkpoint at most. The last checkpoint's scores are those of the stage
`mechanisms`, unless documents were drawn here or for the study's curvature: then they are made anew, so that the
curvature of all checkpoints comes from the same documents. Written: `births` and `mechanism_values`.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import nn

from arithcirc.errors import RequestError
from arithcirc.influence.mechanisms.birth_scores import normed
from arithcirc.influence.mechanisms.births import Births, Checkpoint, births
from arithcirc.influence.mechanisms.choose import Inside
from arithcirc.influence.mechanisms.equations import Equations
from arithcirc.influence.mechanisms.run import STAGE, hash_of, step_of
from arithcirc.influence.mechanisms.values import Mechanism
from arithcirc.influence.study.fit import settings
from arithcirc.influence.study.study import TOKENS, Study, needs_stage
from arithcirc.influence.study.tokens import TokenStore
from arithcirc.influence_scores import MECHANISM_SCORES, ScoreStore
from arithcirc.models.plain import load_plain

SAMPLE = 2000
"""Documents whose influence is followed through training, at most."""
FOLDER = "births"


def checkpoints_of(folder: Path, last: str) -> tuple[Checkpoint, ...]:
    """Checkpoints `step<N>` of a model's folder, up to the one called `last`.

    Raises RequestError where `last` is not among them or is the first.
    """
    steps = sorted(step_of(path.name) for path in folder.glob("step*") if (path / "config.json").is_file())
    kept = [step for step in steps if 0 <= step <= step_of(last)]
    if len(kept) < 2 or kept[-1] != step_of(last):
        raise RequestError(
            f"{folder} has {len(kept)} checkpoints up to {last}, a birth needs two or more: keep more in training, or "
            "study a later step"
        )
    return tuple(Checkpoint(f"step{step}", step) for step in kept)


def run_births(
    study: Study, mechanisms: Sequence[Mechanism], folder: Path, *, given: pd.DataFrame | None = None,
    at_most: int = 4, sample: int = SAMPLE, inside: Inside | None = None,
    load: Callable[[str], nn.Module] | None = None,
) -> Births:  # fmt: skip
    """Stage `births` for mechanisms of the study; `folder` holds the model's checkpoints as `step<N>`.

    `given` are rows of a sweep's table of births; with `inside` the table says whether documents whose equations obey
    a heuristic are found. Raises RequestError where there are no other checkpoints.
    """
    needs_stage(study, STAGE, "score")
    begun = time.perf_counter()
    info = study.model.info
    checkpoints = checkpoints_of(folder, info.revision)

    def loaded(revision: str) -> nn.Module:
        if revision == info.revision:
            return study.model.network
        return load_plain(str(folder / revision), device=info.device, dtype=info.dtype).network

    store = TokenStore.open(study.run.path / TOKENS)
    numbers = np.arange(len(store))
    if sample < len(store):
        rng = np.random.default_rng([study.config.scores.seed, 2])
        numbers = np.sort(rng.choice(numbers, sample, replace=False))
    documents = study.run.table("documents").iloc[numbers]
    equations = Equations.of(documents["text"])
    shares = None if inside is None else [equations.share(m, inside) for m in mechanisms]
    found = births(
        mechanisms, checkpoints, load or loaded, study.tracked, store.chosen(numbers),
        documents["kind"].tolist(),
        study.run.path / FOLDER, settings=settings(study, "ekfac"), given=given, at_most=at_most, shares=shares,
        final=_final(study, mechanisms, len(numbers)), progress=study.report,
    )  # fmt: skip
    tables = [study.run.write_table("mechanism_values", found.values)]
    if len(found.table):
        tables.append(study.run.write_table("births", found.table))
    facts = {
        "documents": len(numbers), "left_out": list(found.left_out),
        "seconds_by_checkpoint": {name: round(value, 1) for name, value in found.seconds.items()},
    }  # fmt: skip
    if found.left_out:
        why = f"without a birth, or born where more than {at_most} checkpoints would have to be fitted"
        study.notice("births", f"{len(found.left_out)} of {len(mechanisms)} mechanisms left out: {why}")
    study.run.finish("births", tables, seconds=time.perf_counter() - begun, facts=facts)
    return found


def _final(
    study: Study, mechanisms: Sequence[Mechanism], followed: int
) -> Float[np.ndarray, "mechanism document"] | None:
    """ekfac_normed of the studied checkpoint where it was scored from the same documents as the others are."""
    scores = ScoreStore.open(study.run.path / MECHANISM_SCORES)
    drawn = study.config.factors.fit_documents
    fitted = scores.n_documents if drawn is None else min(drawn, scores.n_documents)
    same = {part.metadata.get("config") for part in scores.parts} == {hash_of(study, mechanisms)}
    return normed(scores) if same and followed == fitted == scores.n_documents else None
