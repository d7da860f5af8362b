"""Influence on mechanisms at one checkpoint of training: fitted, scored and kept, or read where it was kept before.

`<folder>/scores/part-00000.safetensors` holds `ekfac` (mechanism, document) and `norm` (document) with the hash of all
that they depend on: weights, tracked layers, every mechanism to its last prompt, documents, and the settings that
change scores. What is there under another hash is computed anew. Factors lie beside it and are the engine's own matter
(see `factors`).
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import nn

from arithcirc.errors import RunConflictError
from arithcirc.influence.engine import Engine, Settings
from arithcirc.influence.factors import weights_sha256
from arithcirc.influence.mechanisms.measurements import prepare
from arithcirc.influence.mechanisms.scoring import Scorer
from arithcirc.influence.mechanisms.values import Mechanism, plain
from arithcirc.influence.rows import Row, Rows, fingerprint
from arithcirc.influence_scores import SCORES, ScoreStore, write_part


def scores_at(
    network: nn.Module, tracked: Sequence[str], mechanisms: Sequence[Mechanism], documents: Sequence[Row],
    folder: Path, settings: Settings,
) -> Float[np.ndarray, "mechanism document"]:  # fmt: skip
    """ekfac_normed of all documents at one checkpoint. Cost: a fit and two passes, or nothing where it is kept."""
    weights, rows = weights_sha256(network), Rows(documents)
    kind = Settings(strategy=settings.strategy, damping=settings.damping, seed=settings.seed, amp=settings.amp)
    config = _hash([weights, list(tracked), plain(mechanisms), fingerprint(rows), asdict(kind)])
    kept = folder / SCORES
    if not _fits(kept, config):
        engine = Engine(network, tracked, folder, settings=settings, weights=weights)
        engine.fit(rows)
        scorer = Scorer(
            network, tracked, prepare(network, tracked, mechanisms), folder, settings=settings, weights=weights
        )
        arrays = {"norm": scorer.document_norms(documents), "ekfac": scorer.curved(documents)}
        shutil.rmtree(kept, ignore_errors=True)
        write_part(kept, 0, 0, arrays, {"config": config})
    return normed(ScoreStore.open(kept))


def normed(scores: ScoreStore) -> Float[np.ndarray, "mechanism document"]:
    """ekfac_normed of all documents, read from a folder of scores."""
    return np.concatenate([block for _, _, block in scores.blocks("ekfac_normed")], axis=1)


def _fits(folder: Path, config: str) -> bool:
    """Whether whole scores of this hash are there."""
    try:
        parts = ScoreStore.open(folder).parts
    except RunConflictError:
        return False
    return [part.metadata.get("config") for part in parts] == [config]


def _hash(words: list[object]) -> str:
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
