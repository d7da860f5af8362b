"""Curvature and influence of one model, by kronfluence 1.0.1: EK-FAC (Grosse et al. 2023, arXiv 2308.03296).

The influence of a document d on a measurement f is

    I(f, d) = grad f . (G + lambda)^-1 grad L(d),      L(d) = sum of the document's next-token NLL in nats

with G the Gauss-Newton matrix, block by block of one tracked linear layer. f is a *negative* log-likelihood where a
completion is asked about (rows.summed_nll), so a positive score says: had the model seen more of d, the completion
would be likelier. Of any other f (a neuron's activation) the caller passes the negative, for the same reading.

What an `Engine` holds is a copy of the model with wrapped layers; the model given is left as found, as are torch's
generator, grad mode and threads. Factors lie in a folder of their own, keyed by weights, layers, documents and
settings: those of anything else are refused (`factors`). Cost: a fit takes a forward and a backward pass over the
documents twice and an eigendecomposition of every layer's two covariances; scores one such pass over the documents for
any number of queries whose gradients fit in memory; `measures` one pass. Memory is predicted first (`footprint`).
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arithcirc.errors import NumericsError, RequestError
from arithcirc.influence import kron
from arithcirc.influence.factors import ARGUMENTS, NEEDED, FactorFolder, weights_sha256
from arithcirc.influence.footprint import Footprint, Sizes, check_room, footprint
from arithcirc.influence.gradients import Curvature, Measures, curvatures, measured
from arithcirc.influence.rows import Numbered, Rows, by_length, collate_drawing, fingerprint, restored
from arithcirc.influence.task import EngineTask, Measurement, Progress, completion_nll, loss_by_row
from arithcirc.influence.tracked import check_weights, linear_modules
from arithcirc.models.memory import free_bytes

__all__ = ["STRATEGIES", "Engine", "Measurement", "Measures", "Settings", "completion_nll", "linear_modules"]

STRATEGIES = tuple(NEEDED)
AMP = ("bfloat16", "float16")
_PHASES = {"covariance": 0, "lambda": 1}
_PAIRS = "pairs"


@dataclass(frozen=True)
class Settings:
    """How curvature is computed. `damping` None: 0.1 x mean eigenvalue of each layer (Grosse et al.).

    `data_partitions` x `module_partitions`: a fit is done, kept and gone on with in so many pieces, each with its share
    of the documents and layers; partitions of layers also bound the memory of scores. `amp`: forward and backward
    passes in bfloat16 or float16; covariances, eigenvalues and scores stay in float32. `low_rank`: query gradients are
    held as matrices of that rank. Of these, strategy, seed and amp belong to the factors.
    """

    strategy: str = "ekfac"
    damping: float | None = None
    batch_size: int = 32
    query_batch_size: int = 64
    low_rank: int | None = None
    seed: int = 0
    data_partitions: int = 1
    module_partitions: int = 1
    amp: str | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise RequestError(f"strategy {self.strategy!r} is not known: use one of {', '.join(STRATEGIES)}")
        if self.damping is not None and not self.damping >= 0:
            raise RequestError(f"--damping {self.damping} is below 0: give 0 or more, or leave it out (0.1 x mean)")
        if self.amp is not None and self.amp not in AMP:
            raise RequestError(f"mixed precision {self.amp!r} is not known: use {' or '.join(AMP)}, or leave it out")
        for name in ("batch_size", "query_batch_size", "data_partitions", "module_partitions", "low_rank"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise RequestError(f"--{name.replace('_', '-')} {value} is too small: give 1 or more")


class Engine:
    """A wrapped copy of a model, and a folder for its factors.

    `weights` is a hash that names the model's weights; it is computed from them where it is left out.
    """

    def __init__(
        self,
        model: nn.Module,
        tracked: Sequence[str],
        folder: Path,
        *,
        settings: Settings | None = None,
        measurement: Measurement = completion_nll,
        weights: str | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.folder = folder
        self.tracked = tuple(tracked)
        if self.settings.module_partitions > len(self.tracked):
            raise RequestError(
                f"--module-partitions {self.settings.module_partitions} is more than the {len(self.tracked)} tracked "
                "layers: give at most that many"
            )
        check_weights(model)
        key = {
            "weights": weights or weights_sha256(model),
            "layers": list(self.tracked),
            "seed": self.settings.seed,
            "amp": self.settings.amp,
        }
        self.factors = FactorFolder(folder, self.settings.strategy, key)
        self.sizes = Sizes.of(model, self.tracked)
        self._task = EngineTask(self.tracked, measurement)
        with torch.inference_mode(False):
            self._model = kron.wrapped(copy.deepcopy(model), self._task)
        self._analyzer: Any = None
        self._curvature: dict[str, Curvature] | None = None

    # -- fitting ----------------------------------------------------------------------------------------------------

    def fit(self, documents: Rows, *, progress: Progress | None = None) -> None:
        """Covariances, eigenbases and corrected eigenvalues from these documents; what was finished before is reused.

        Raises RunConflictError where the folder holds factors of other weights, layers, documents or settings,
        NumericsError where curvature is not finite, EnvironmentFailure where memory or disk do not suffice.
        """
        self.claim(documents)
        for stage in NEEDED[self.settings.strategy]:
            for partition in self.pending(stage):
                self.fit_partition(stage, documents, partition, progress=progress)
            self.close(stage)

    def claim(self, documents: Rows) -> None:
        """The checks with which a fit begins: rows, memory, whose factors are in the folder."""
        if not len(documents):
            raise RequestError("there are no documents to fit curvature from: give a corpus with at least one")
        if self.settings.data_partitions > len(documents):
            raise RequestError(
                f"--data-partitions {self.settings.data_partitions} is more than the {len(documents)} documents"
            )
        needed = self.predict(documents).peak("covariance", "eigen", "eigenvalues")
        advice = "give a smaller --batch-size or more --module-partitions, or track fewer layers"
        check_room(needed, self._free(), what="fitting curvature", advice=advice)
        self.factors.claim({
            "documents": fingerprint(documents),
            "data_partitions": self.settings.data_partitions,
            "module_partitions": self.settings.module_partitions,
        })  # fmt: skip

    def pending(self, stage: str) -> list[tuple[int, int]]:
        """Partitions (of data, of layers) of a stage of which nothing is on disk; none where the stage is finished."""
        if self.factors.has(stage):
            return []
        if stage == "eigen":
            return [(0, 0)]
        pairs = [(d, m) for d in range(self.settings.data_partitions) for m in range(self.settings.module_partitions)]
        return [pair for pair in pairs if len(pairs) == 1 or not self.factors.has(stage, pair)]

    def fit_partition(
        self, stage: str, documents: Rows, partition: tuple[int, int], *, progress: Progress | None = None
    ) -> None:
        """Compute one partition of one stage and keep it, whole and finite or not at all."""
        order = by_length(documents, parts=self.settings.data_partitions)
        passes = self.settings.module_partitions * len(documents) // self.settings.data_partitions
        with self._working(f"fitting {stage}", passes, progress, keep=True) as analyzer:
            if stage == "eigen":
                analyzer.perform_eigendecomposition(self.settings.strategy, factor_args=self._factor_args())
                return
            target: dict[str, Any] = {}
            if self.settings.data_partitions * self.settings.module_partitions > 1:
                target = {"target_data_partitions": [partition[0]], "target_module_partitions": [partition[1]]}
            fit = analyzer.fit_covariance_matrices if stage == "covariance" else analyzer.fit_lambda_matrices
            fit(
                self.settings.strategy,
                Numbered(documents, order),
                per_device_batch_size=min(self.settings.batch_size, len(documents)),
                dataloader_kwargs=self._loading(_PHASES[stage]),
                factor_args=self._factor_args(),
                **target,
            )

    def close(self, stage: str) -> None:
        """Add up a stage's partitions once all are there."""
        if not self.factors.has(stage):
            with self._working(f"adding up {stage}", 1, None, keep=True) as analyzer:
                added = {
                    "covariance": analyzer.aggregate_covariance_matrices,
                    "lambda": analyzer.aggregate_lambda_matrices,
                }
                added[stage](self.settings.strategy)
        self.factors.drop_partitions()

    # -- scoring ----------------------------------------------------------------------------------------------------

    def scores(
        self, queries: Rows, documents: Rows, *, progress: Progress | None = None
    ) -> Float[Tensor, "query document"]:
        """I(f_q, d) for every query and document. Raises NumericsError where a score is not finite.

        Raises RunConflictError where the folder has no factors of these weights, EnvironmentFailure for memory.
        """
        self.factors.check()
        if not len(queries) or not len(documents):
            return torch.zeros(len(queries), len(documents))
        asked, given = by_length(queries), by_length(documents)
        needed = self.predict(documents, queries=len(queries)).scores
        advice = "give --low-rank queries, more --module-partitions, fewer queries at a time, or a smaller --batch-size"
        check_room(needed, self._free(), what="scoring", advice=advice)
        total = (len(queries) + len(documents)) * self.settings.module_partitions
        with self._working("scoring", total, progress, keep=False) as analyzer:
            analyzer.compute_pairwise_scores(
                _PAIRS, self.settings.strategy, Numbered(queries, asked), Numbered(documents, given),
                per_device_query_batch_size=min(self.settings.query_batch_size, len(queries)),
                per_device_train_batch_size=min(self.settings.batch_size, len(documents)),
                dataloader_kwargs=self._loading(0), score_args=self._score_args(),
            )  # fmt: skip
            found: Tensor = analyzer.load_pairwise_scores(_PAIRS)["all_modules"]
        return _finite(restored(restored(found, asked, dim=0), given, dim=1))

    def self_scores(self, rows: Rows, *, progress: Progress | None = None) -> Float[Tensor, "document"]:
        """g . (G + lambda)^-1 g of every row's loss gradient; with strategy identity its squared norm."""
        return self.measures(rows, progress=progress).self_influence

    def measures(self, rows: Rows, *, progress: Progress | None = None) -> Measures:
        """NLL, norm of the loss gradient (plain, whatever the strategy) and self-influence of every row: one pass."""
        order = by_length(rows)
        parts = list(self._squares(rows, order, loss_by_row, "measuring documents", progress))
        nll, norms, forms = (restored(torch.cat(column), order, dim=0) for column in zip(*parts, strict=True))
        return Measures(_finite(nll), _finite(norms.sqrt()), _finite(forms))

    def query_norms(self, rows: Rows, *, progress: Progress | None = None) -> Float[Tensor, "query"]:
        """Norm of every row's gradient of the measurement f."""
        order = by_length(rows)
        parts = list(self._squares(rows, order, self._task.measurement, "measuring queries", progress))
        return _finite(restored(torch.cat([norms for _, norms, _ in parts]), order, dim=0).sqrt())

    def _squares(
        self, rows: Rows, order: list[int], losses: Measurement, what: str, progress: Progress | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        self.factors.check()
        if not len(rows):
            raise RequestError("there are no rows to measure: give at least one")
        check_room(
            self.predict(rows).scores, self._free(), what="measuring gradients", advice="give a smaller --batch-size"
        )
        device, size, numbered = self._device(), self.settings.batch_size, Numbered(rows, order)
        starts = range(0, len(rows), size)
        items = ([numbered[i] for i in range(s, min(s + size, len(rows)))] for s in starts)
        made = (collate_drawing(batch, seed=(self.settings.seed, 0)) for batch in items)
        batches = ({name: value.to(device) for name, value in batch.items()} for batch in made)
        amp = None if self.settings.amp is None else getattr(torch, self.settings.amp)
        with kron.quietly(self._model, seed=self.settings.seed):
            curvature = self._curvatures()

            def under(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
                with torch.autocast(device.type, enabled=amp is not None, dtype=amp):
                    return losses(model, batch)

            done = 0
            for loss, norms, forms in measured(self._model, curvature, batches, under):
                done += len(norms)
                if progress is not None:
                    progress(what, done, len(rows))
                yield loss.cpu(), norms.cpu(), forms.cpu()
            self._model.zero_grad(set_to_none=True)

    def _curvatures(self) -> dict[str, Curvature]:
        if self._curvature is None:
            with self._working("reading factors", 1, None, keep=False) as analyzer:
                factors = analyzer.load_all_factors(self.settings.strategy)
            damping = self.settings.damping
            self._curvature = curvatures(factors, self.tracked, damping=damping, device=self._device())
        return self._curvature

    # -- what both need ---------------------------------------------------------------------------------------------

    def predict(self, documents: Rows, *, queries: int = 0) -> Footprint:
        """Bytes of each stage for these rows, beside the model."""
        longest = max((len(row.tokens) for row in documents.rows), default=1)
        return footprint(
            self.sizes, batch_size=min(self.settings.batch_size, len(documents)), tokens=longest, queries=queries,
            query_batch_size=self.settings.query_batch_size, low_rank=self.settings.low_rank,
            module_partitions=self.settings.module_partitions,
        )  # fmt: skip

    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _free(self) -> int:
        return free_bytes(str(self._device()))

    @contextmanager
    def _working(self, what: str, total: int, progress: Progress | None, *, keep: bool) -> Iterator[Any]:
        """kronfluence's analyzer, at work in a scratch folder."""
        done = 0

        def seen(rows: int) -> None:
            nonlocal done
            done = min(done + rows, total)
            if progress is not None:
                progress(what, done, total)

        with self.factors.scratch(keep=keep) as folder, kron.quietly(self._model, seed=self.settings.seed):
            if self._analyzer is None:
                with TemporaryDirectory() as unused:
                    self._analyzer = kron.opened(self._model, self._task, unused)
            self._analyzer.output_dir = folder
            self._save_arguments(folder)
            self._task.seen = seen
            try:
                yield self._analyzer
            finally:
                self._task.seen = lambda _: None
                kron.released(self._model)

    def _save_arguments(self, folder: Path) -> None:
        """What kronfluence reads to know the strategy; the same for every step, so it is not kept."""
        from kronfluence.utils.save import save_json

        save_json(self._factor_args().to_dict(), folder / f"factors_{self.settings.strategy}" / ARGUMENTS)

    def _loading(self, phase: int) -> Any:
        from kronfluence.utils.dataset import DataLoaderKwargs

        return DataLoaderKwargs(collate_fn=partial(collate_drawing, seed=(self.settings.seed, phase)))

    def _factor_args(self) -> Any:
        from kronfluence.arguments import FactorArguments

        return FactorArguments(
            strategy=self.settings.strategy,
            covariance_max_examples=None,
            lambda_max_examples=None,
            covariance_data_partitions=self.settings.data_partitions,
            lambda_data_partitions=self.settings.data_partitions,
            covariance_module_partitions=self.settings.module_partitions,
            lambda_module_partitions=self.settings.module_partitions,
            amp_dtype=None if self.settings.amp is None else getattr(torch, self.settings.amp),
        )

    def _score_args(self) -> Any:
        from kronfluence.arguments import ScoreArguments

        return ScoreArguments(
            damping_factor=self.settings.damping,
            query_gradient_low_rank=self.settings.low_rank,
            query_gradient_accumulation_steps=10_000,
            module_partitions=self.settings.module_partitions,
            amp_dtype=None if self.settings.amp is None else getattr(torch, self.settings.amp),
        )


def _finite(scores: Tensor) -> Tensor:
    if not torch.isfinite(scores).all():
        raise NumericsError("influence scores are not finite: the curvature has no usable eigenvalues, raise --damping")
    return scores
