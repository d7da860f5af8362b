"""Scores of documents for prepared mechanisms, with the fitted curvature and without any."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import nn

from arithcirc.influence.engine import Engine, Settings
from arithcirc.influence.mechanisms.measurements import Prepared, mechanism_measurement, mechanism_rows
from arithcirc.influence.rows import Row, Rows

AT_ONCE = 8
"""Mechanisms in one forward: each brings all its prompts."""


class Scorer:
    """Engines whose queries are mechanisms: `settings.strategy` with the factors in a folder, and plain gradients.

    Positive: a step on the document strengthens the mechanism. Queries are exact, never of low rank: there are few.
    """

    def __init__(
        self, network: nn.Module, tracked: Sequence[str], prepared: Prepared, factors: Path, *,
        settings: Settings, weights: str | None = None,
    ) -> None:  # fmt: skip
        settings = replace(settings, query_batch_size=min(settings.query_batch_size, AT_ONCE), low_rank=None)
        plain = replace(settings, strategy="identity")
        measure, self._rows = mechanism_measurement(prepared), mechanism_rows(prepared)
        self._curved = Engine(
            network, tracked, factors, settings=settings, measurement=measure, weights=weights
        )  # fmt: skip
        self._plain = Engine(network, tracked, factors, settings=plain, measurement=measure, weights=weights)
        few = replace(plain, batch_size=min(settings.batch_size, AT_ONCE))
        self._few = Engine(network, tracked, factors, settings=few, measurement=measure, weights=weights)

    def scores(self, rows: Sequence[Row]) -> dict[str, Float[np.ndarray, "mechanism document"]]:
        """`ekfac` (or whatever the strategy is called) and `dot` of these documents. Cost: two passes over them."""
        flat: np.ndarray = self._plain.scores(self._rows, Rows(rows)).float().numpy()
        return {self._curved.settings.strategy: self.curved(rows), "dot": flat}

    def curved(self, rows: Sequence[Row]) -> Float[np.ndarray, "mechanism document"]:
        """Scores by curvature alone. Cost: one pass."""
        found: np.ndarray = self._curved.scores(self._rows, Rows(rows)).float().numpy()
        return found

    def document_norms(self, rows: Sequence[Row]) -> Float[np.ndarray, "document"]:
        """Size of each document's plain gradient. Cost: one pass."""
        norms: np.ndarray = self._plain.measures(Rows(rows)).norm.float().numpy()
        return norms

    def norms(self) -> Float[np.ndarray, "mechanism"]:
        """Size of each mechanism's own gradient."""
        norms: np.ndarray = self._few.query_norms(self._rows).double().numpy()
        return norms
