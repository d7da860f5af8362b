"""A scored study beside the training that made its model, so that its influences can be tried by training again.

The study knows documents and queries, `influence.train.open_material` reads texts and recipe; `open_trial` says
whether they are of one corpus, and `check_recipe` whether training anew gives the study's model: every query must cost
the nats that the study measured. Of a model whose training is not known, no influence can be tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from arithcirc.errors import RunConflictError
from arithcirc.influence.rows import Rows
from arithcirc.influence.study.queries import query_rows
from arithcirc.influence.truth.retraining import Left, Progress, Retraining
from arithcirc.influence_scores import SCORES, ScoreStore
from arithcirc.store import RunFolder
from arithcirc.training.text_data import Texts
from arithcirc.training.text_recipe import TextRecipe

TOLERANCE = 0.02
"""Nats by which a query may differ from the study's, for another number of threads rounds otherwise."""
_COLUMNS = ["document", "kind", "source", "tokens", "holds"]


@dataclass(frozen=True)
class Trial:
    """Queries and documents of a study, its scores by method, and the trainings that try them."""

    queries: pd.DataFrame
    documents: pd.DataFrame
    scores: Mapping[str, Float[np.ndarray, "query document"]]
    retraining: Retraining

    def whole(self) -> Left:
        """The training that leaves nothing out."""
        return Left(np.ones(len(self.documents), dtype=bool))

    def of_kind(self, *kinds: str) -> Bool[np.ndarray, "document"]:
        """Which documents are of these kinds."""
        found: np.ndarray = self.documents["kind"].isin(kinds).to_numpy()
        return found


def open_trial(
    study: Path,
    texts: Texts,
    recipe: TextRecipe,
    folder: Path,
    *,
    methods: Sequence[str] | None = None,
    device: str = "cpu",
) -> Trial:
    """The trial of a scored study folder (`.../influence`); what trainings find is kept in `folder`.

    Scores of all documents are held in memory, 4 bytes each. Raises RunConflictError where the study is of other texts.
    """
    run, store = RunFolder.open(study), ScoreStore.open(study / SCORES)
    documents, queries = run.table("documents")[_COLUMNS], run.table("queries")
    lengths = np.diff(texts.ends, prepend=0)
    if len(documents) != len(texts) or (documents["tokens"].to_numpy() != lengths).any():
        raise RunConflictError(
            f"{study} has {len(documents)} documents, the corpus to train on {len(texts)}, or of other lengths: give "
            "the corpus and the --max-tokens the study was made with"
        )
    scores = {
        name: np.stack([store.row(query, name) for query in range(store.n_queries)])
        for name in methods or store.methods
    }
    retraining = Retraining(texts, recipe, Rows(query_rows(queries)), folder, device=device)
    return Trial(queries, documents, scores, retraining)


def check_recipe(trial: Trial, *, progress: Progress | None = None) -> float:
    """Train on everything; the largest difference in nats from what the study's model gave to its completions.

    Raises RunConflictError above TOLERANCE: the model was then not trained by this recipe on these texts.
    """
    again = trial.retraining.all([trial.whole()], progress=progress)[0]
    difference = float(np.abs(again - trial.queries["nats"].to_numpy(np.float64)).max())
    if not difference <= TOLERANCE:
        raise RunConflictError(
            f"training by recipe {trial.retraining.recipe.name!r} gives another model than the study's (completions "
            f"differ by up to {difference:.3g} nats): give the recipe.json beside the model, and the same corpus"
        )
    return difference
