"""Stage `mechanisms`: which documents built the rules of a run's neurons, in the same tables as queries.

The run (`analyze`) says which neurons and heuristics there are; the study has the documents, the curvature and the
scores of queries. Partitions are written and reused like those (`study.score`), a stop loses one at most. Written:

    mechanisms            what was measured, its value before the sign, the size of its gradient
    mechanism_scores/     ekfac, dot, random (mechanism, document), norm (document)
    mechanism_top         as `top`; hits are the document's equations that belong to the heuristic
    mechanism_retrieval   whether documents whose equations obey the heuristic score higher (see `equations`)
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.errors import RunConflictError
from arithcirc.influence.mechanisms.choose import HEURISTICS, NEURONS, PROMPTS, Inside, build, choose, encoder_of
from arithcirc.influence.mechanisms.equations import Equations, retrieval
from arithcirc.influence.mechanisms.measurements import prepare, values
from arithcirc.influence.mechanisms.scoring import Scorer
from arithcirc.influence.mechanisms.values import Mechanism, plain
from arithcirc.influence.rows import Row
from arithcirc.influence.study.baselines import noise
from arithcirc.influence.study.fit import settings
from arithcirc.influence.study.score import portions, write_parts
from arithcirc.influence.study.study import FACTORS, FIT, SCORES, TOKENS, Study, needs_stage
from arithcirc.influence.study.tokens import TokenStore
from arithcirc.influence.study.top import write_top
from arithcirc.influence_scores import MECHANISM_SCORES, ScoreStore, part_name
from arithcirc.store import RunFolder

STAGE = "mechanisms"
TABLES = ("mechanisms.parquet", "mechanism_top.parquet", "mechanism_retrieval.parquet")


@dataclass(frozen=True)
class Wanted:
    """Which mechanisms: so many neurons and heuristics, or those named; prompts on each side, and the seed of both."""

    neurons: int = NEURONS
    heuristics: int = HEURISTICS
    names: tuple[str, ...] | None = None
    prompts: int = PROMPTS
    seed: int = 0


def run(study: Study, analysed: RunFolder, *, inside: Inside, wanted: Wanted | None = None) -> tuple[Mechanism, ...]:
    """Stage `mechanisms` of a study that has scores. A finished stage is reused for the same mechanisms.

    `inside` tells which prompts belong to a heuristic. Raises RunConflictError where the analysed run is of other
    weights, RequestError where it has no significant label or a name is not among them.
    """
    needs_stage(study, SCORES, "score")
    check_weights(study, analysed)
    wanted = wanted or Wanted()
    mechanisms = find(study, analysed, inside, wanted)
    config = hash_of(study, mechanisms)
    held = study.run.manifest["stages"].get(STAGE, {})
    if study.run.finished(STAGE) and held.get("config") == config:
        study.notice(STAGE, "finished before, reused")
        return mechanisms
    begun = time.perf_counter()
    store = TokenStore.open(study.run.path / TOKENS)
    network = study.model.network
    prepared = prepare(network, study.tracked, mechanisms)
    scorer = Scorer(
        network, study.tracked, prepared, study.run.path / FACTORS, settings=settings(study, "ekfac"),
        weights=study.model.info.weights_sha256,
    )  # fmt: skip
    norms = ScoreStore.open(study.run.path / SCORES).documents("norm")
    seed = study.config.scores.seed + 1  # not the draws of the queries

    def arrays(start: int, end: int, rows: list[Row]) -> dict[str, np.ndarray]:
        return {
            **scorer.scores(rows),
            "random": noise(seed, len(mechanisms), start, end),
            "norm": norms[start:end],
        }

    study.run.write_table("mechanisms", _table(study, mechanisms, values(network, prepared), scorer.norms()))
    _drop_parts(study, store)
    write_parts(study, store, MECHANISM_SCORES, config, arrays, range(len(portions(study, store))))
    _finish(study, store, mechanisms, inside, config, time.perf_counter() - begun)
    return mechanisms


def check_weights(study: Study, analysed: RunFolder) -> None:
    """Raise RunConflictError where the labels are of another model than the factors."""
    labelled = analysed.manifest["config"].get("model", {}).get("weights_sha256")
    if labelled != study.model.info.weights_sha256:
        raise RunConflictError(
            f"the neurons of run {analysed.path} are of other weights ({str(labelled)[:12]}) than {study.run.path} "
            f"({study.model.info.weights_sha256[:12]}): analyse this checkpoint with 'arithcirc analyze'"
        )


def find(study: Study, analysed: RunFolder, inside: Inside, wanted: Wanted) -> tuple[Mechanism, ...]:
    """The mechanisms of an analysed run with their prompts."""
    chosen = choose(analysed, neurons=wanted.neurons, heuristics=wanted.heuristics, names=wanted.names)
    encoder = encoder_of(analysed, study.model.tokenizer)
    operands = OperandRange.parse(analysed.manifest["config"]["prompts"]["operands"])
    return build(chosen, encoder, operands, inside, prompts=wanted.prompts, seed=wanted.seed)


def hash_of(study: Study, mechanisms: Sequence[Mechanism]) -> str:
    """What the scores belong to: the study's model, corpus and factors, and every mechanism to its last prompt."""
    words = [study.hash_of((*FIT, "scores")), plain(mechanisms)]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def _drop_parts(study: Study, store: TokenStore) -> None:
    """Forget the stage, and parts beyond the last: what is left is checked by its hash."""
    study.run.forget([STAGE])
    names = {part_name(i) for i in range(len(portions(study, store)))}
    for file in (study.run.path / MECHANISM_SCORES).glob("part-*.safetensors"):
        if file.name not in names:
            file.unlink()


def _table(study: Study, mechanisms: Sequence[Mechanism], measured: np.ndarray, norms: np.ndarray) -> pd.DataFrame:
    """Table `mechanisms`; layer and neuron are -1 for a heuristic, whose neurons are listed."""
    revision = study.model.info.revision
    rows = []
    for mechanism, value, norm in zip(mechanisms, measured, norms, strict=True):
        one = mechanism.neurons[0] if mechanism.what == "neuron" else None
        rows.append(
            {
                "query": mechanism.id,
                "what": mechanism.what,
                "measure": mechanism.measure,
                "operator": mechanism.operator,
                "layer": -1 if one is None else one.layer,
                "neuron": -1 if one is None else one.index,
                "heuristic": mechanism.heuristic,
                "family": mechanism.family,
                "neurons": [str(n) for n in mechanism.neurons],
                "inside": mechanism.inside,
                "outside": mechanism.outside,
                "sign": mechanism.sign,
                "value": float(value),
                "norm": float(norm),
                "revision": revision,
                "step": step_of(revision),
            }
        )
    return pd.DataFrame(rows)


def step_of(revision: str) -> int:
    """`step4000` -> 4000; -1 where a revision names no step."""
    digits = revision.removeprefix("step")
    return int(digits) if revision.startswith("step") and digits.isdecimal() else -1


def _finish(
    study: Study, store: TokenStore, mechanisms: Sequence[Mechanism], inside: Inside, config: str, seconds: float
) -> None:
    """Tables over all documents, once every partition is there."""
    scores = ScoreStore.open(study.run.path / MECHANISM_SCORES)
    equations = Equations.of(_texts(study, store))
    write_top(study.run, scores, "mechanisms", "mechanism_top")
    top = study.run.table("mechanism_top")
    by_id = {m.id: m for m in mechanisms}
    pairs = list(zip(top["query"].tolist(), top["document"].tolist(), strict=True))
    known = {pair: equations.hits(pair[1], by_id[pair[0]], inside) for pair in dict.fromkeys(pairs)}
    top["hits"] = pd.Series([known[pair] for pair in pairs], index=top.index, dtype=object)
    study.run.write_table("mechanism_top", top)
    study.run.write_table("mechanism_retrieval", retrieval(scores, mechanisms, equations, inside))
    outputs = [*study.files_in(MECHANISM_SCORES), *TABLES]
    facts = {"config": config, "mechanisms": len(mechanisms), "documents": len(store)}
    study.run.finish(STAGE, outputs, seconds=seconds, facts=facts)


def _texts(study: Study, store: TokenStore) -> Iterator[str]:
    for start, end in portions(study, store):
        yield from (piece.text for piece in store.pieces(study.source.documents, start, end))
