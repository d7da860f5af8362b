"""Stage `mechanisms`: which documents built the rules of a run's neurons, in the same tables as queries.

The run (`analyze`) says which neurons and heuristics there are; the study has the documents, the curvature and the
scores of queries. Partitions are written and reused like those (`study.score`), a stop loses one at most. Mechanisms
that were scored before stay: those asked for later are scored alone and put behind them. Written:

    mechanisms            what was measured, its value before the sign, the size of its gradient
    mechanism_scores/     ekfac, dot, random (mechanism, document), norm (document)
    mechanism_top         as `top`; hits are the document's equations that belong to the heuristic
    mechanism_retrieval   whether documents whose equations obey the heuristic score higher (see `equations`)
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.errors import RequestError, RunConflictError
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
from arithcirc.influence_scores import MECHANISM_SCORES, ScoreStore, part_name, write_part
from arithcirc.store import RunFolder

STAGE = "mechanisms"
ADDED = "mechanism_scores_added"
"""Where mechanisms that were asked for later are scored, until they are put to the others."""
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
    """Stage `mechanisms` of a study that has scores; all its mechanisms, those scored before first and not again.

    `inside` tells which prompts belong to a heuristic. Raises RunConflictError where the analysed run is of other
    weights, RequestError where it has no significant label or a name is not among them.
    """
    needs_stage(study, SCORES, "score")
    check_weights(study, analysed)
    wanted = wanted or Wanted()
    asked = find(study, analysed, inside, wanted)
    held = _held(study, analysed, inside, wanted)
    known = {mechanism.id for mechanism in held}
    added = tuple(mechanism for mechanism in asked if mechanism.id not in known)
    whole = bool(held) and study.run.finished(STAGE)
    if whole and not added:
        study.notice(STAGE, "finished before, reused")
        return held
    begun = time.perf_counter()
    store = TokenStore.open(study.run.path / TOKENS)
    if not held:
        study.run.forget([STAGE])
    everything = (*held, *added)
    config = hash_of(study, everything)
    if whole and _same_portions(study, store):
        study.notice(STAGE, f"{len(added)} more beside the {len(held)} scored before")
        table = pd.concat([study.run.table("mechanisms"), _score(study, store, held, added, ADDED)], ignore_index=True)
        _join(study, store, config)
    else:
        _drop_extra(study, store)
        table = _score(study, store, (), everything, MECHANISM_SCORES)
    study.run.write_table("mechanisms", table)
    _finish(study, store, everything, inside, config, time.perf_counter() - begun)
    return everything


def _held(study: Study, analysed: RunFolder, inside: Inside, wanted: Wanted) -> tuple[Mechanism, ...]:
    """The mechanisms that the stage was finished for, none where their labels or prompts are not the same any more."""
    record = study.run.manifest["stages"].get(STAGE)
    if record is None:
        return ()
    try:
        names = record.get("ids") or study.run.table("mechanisms")["query"].tolist()
        held = find(study, analysed, inside, replace(wanted, names=tuple(names)))
    except RequestError:  # a label is gone, or the table
        held = ()
    if held and hash_of(study, held) == record.get("config"):
        return held
    study.notice(STAGE, "those scored before had other labels or prompts: dropped")
    return ()


def _score(
    study: Study, store: TokenStore, before: Sequence[Mechanism], mechanisms: Sequence[Mechanism], folder: str
) -> pd.DataFrame:
    """Write the partitions of some mechanisms to a folder, as the rows behind those `before`; their table."""
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
            "random": noise(seed, len(before) + len(mechanisms), start, end)[len(before) :],
            "norm": norms[start:end],
        }

    write_parts(study, store, folder, hash_of(study, mechanisms), arrays, range(len(portions(study, store))))
    return _table(study, mechanisms, values(network, prepared), scorer.norms())


def _same_portions(study: Study, store: TokenStore) -> bool:
    """Whether the partitions on disk are those that would be written now."""
    parts = ScoreStore.open(study.run.path / MECHANISM_SCORES).parts
    return [(part.start, part.end) for part in parts] == portions(study, store)


def _join(study: Study, store: TokenStore, config: str) -> None:
    """Put the rows of the folder of added mechanisms behind those that are there, partition by partition."""
    folder, added = study.run.path / MECHANISM_SCORES, study.run.path / ADDED
    for number, (start, _) in enumerate(portions(study, store)):
        old, new = (load_file(place / part_name(number)) for place in (folder, added))
        rows = {name: array if array.ndim == 1 else np.concatenate([array, new[name]]) for name, array in old.items()}
        write_part(folder, number, start, rows, {"config": config})
    shutil.rmtree(added, ignore_errors=True)


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


def _drop_extra(study: Study, store: TokenStore) -> None:
    """Remove parts beyond the last: what is left is checked by its hash."""
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
    facts = {
        "config": config,
        "mechanisms": len(mechanisms),
        "documents": len(store),
        "ids": [m.id for m in mechanisms],
    }
    study.run.finish(STAGE, outputs, seconds=seconds, facts=facts)


def _texts(study: Study, store: TokenStore) -> Iterator[str]:
    for start, end in portions(study, store):
        yield from (piece.text for piece in store.pieces(study.source.documents, start, end))
