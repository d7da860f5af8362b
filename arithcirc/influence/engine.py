"""Curvature and influence of one model, by kronfluence 1.0.1: EK-FAC (Grosse et al. 2023, arXiv 2308.03296).

The influence of a document d on a measurement f is

    I(f, d) = grad f . (G + lambda)^-1 grad L(d),      L(d) = sum of the document's next-token NLL in nats

with G the Gauss-Newton matrix, block by block of one tracked linear layer. f is a *negative* log-likelihood where a
completion is asked about (rows.summed_nll), so a positive score says: had the model seen more of d, the completion
would be likelier. Of any other f (a neuron's activation) the caller passes the negative, for the same reading.

What an `Engine` holds is a copy of the model with wrapped layers; the model given is left as found. Factors lie in a
folder of their own and are reused when they are there: the folder must belong to these weights (see `fit`).
"""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from kronfluence.utils.dataset import DataLoaderKwargs
from torch import Tensor, nn

from arithcirc.errors import ModelError, NumericsError
from arithcirc.influence.rows import IGNORED, Batch, Rows, collate, summed_nll

STRATEGIES = ("ekfac", "kfac", "diagonal", "identity")
Measurement = Callable[[nn.Module, Batch], Tensor]
"""f of a batch, summed over its rows; every row's share may depend on that row alone."""


def completion_nll(model: nn.Module, batch: Batch) -> Tensor:
    """Weighted sum over rows of the NLL in nats of the labels that count."""
    return summed_nll(_logits(model, batch), batch["labels"], batch["weight"])


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    out: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    return out


class _Task(Task):  # type: ignore[misc]
    """What kronfluence asks of a task."""

    def __init__(self, tracked: Sequence[str], measurement: Measurement, generator: torch.Generator) -> None:
        self.tracked, self.measurement, self.generator = list(tracked), measurement, generator

    def compute_train_loss(self, batch: Batch, model: nn.Module, sample: bool = False) -> Tensor:
        """Sum of NLL; with `sample` of labels drawn from the model (the true Fisher, not the empirical one)."""
        logits, labels = _logits(model, batch), batch["labels"]
        if sample:
            with torch.no_grad():
                drawn = torch.multinomial(logits[:, :-1].softmax(-1).flatten(0, 1), 1, generator=self.generator)
                counts = labels[:, 1:] != IGNORED
                labels = labels.clone()
                labels[:, 1:][counts] = drawn.view_as(counts)[counts]
        return summed_nll(logits, labels, torch.ones_like(batch["weight"]))

    def compute_measurement(self, batch: Batch, model: nn.Module) -> Tensor:
        """The caller's f."""
        return self.measurement(model, batch)

    def get_influence_tracked_modules(self) -> list[str]:
        """Names of the tracked layers."""
        return self.tracked

    def get_attention_mask(self, batch: Batch) -> Tensor:
        """Padding is left out of the covariances."""
        return batch["attention_mask"]


def linear_modules(model: nn.Module, *, kinds: Sequence[str] = ("mlp",)) -> tuple[str, ...]:
    """Names of the linear layers inside `mlp` and/or `attention` blocks that can be tracked, in the model's order.

    The unembedding and embeddings are never tracked. Raises ModelError where there is none, listing what is there
    (GPT-2's Conv1D layers, which kronfluence would leave out without a word).
    """
    marks = {"mlp": ("mlp", "feed_forward"), "attention": ("attn", "attention")}
    wanted = [mark for kind in kinds for mark in marks[kind]]
    inside = [
        (name, module)
        for name, module in model.named_modules()
        if any(mark in part for part in name.split(".") for mark in wanted) and not list(module.children())
    ]
    found = tuple(name for name, module in inside if isinstance(module, nn.Linear))
    lost = sorted({type(m).__name__ for _, m in inside if not isinstance(m, nn.Linear) and hasattr(m, "weight")})
    lost = [name for name in lost if "Norm" not in name]
    if not found or lost:
        raise ModelError(
            f"layers of {type(model).__name__} cannot be tracked "
            f"({', '.join(lost) or 'no linear layer in ' + '/'.join(kinds)}): "
            "influence needs MLPs made of torch.nn.Linear, as in GPT-NeoX, GPT-J, Llama, Mistral, Qwen, Gemma and OLMo"
        )
    return found


@dataclass(frozen=True)
class Settings:
    """How curvature is computed. `damping` None: 0.1 x mean eigenvalue of each layer (Grosse et al.)."""

    strategy: str = "ekfac"
    damping: float | None = None
    batch_size: int = 32
    query_batch_size: int = 64
    low_rank: int | None = None
    seed: int = 0


class Engine:
    """A wrapped copy of a model, and a folder for its factors."""

    def __init__(
        self,
        model: nn.Module,
        tracked: Sequence[str],
        folder: Path,
        *,
        settings: Settings | None = None,
        measurement: Measurement = completion_nll,
    ) -> None:
        self.settings = settings or Settings()
        self.folder = folder
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(self.settings.seed)
        self._task = _Task(tracked, measurement, generator)
        with torch.random.fork_rng(devices=[]):
            self._model = prepare_model(copy.deepcopy(model), self._task)
        logging.getLogger("kronfluence").setLevel(logging.ERROR)
        self._analyzer = self._open(folder)

    def _open(self, folder: Path) -> Any:
        analyzer = Analyzer(
            folder.name, self._model, self._task, cpu=next(self._model.parameters()).device.type == "cpu",
            disable_tqdm=True, output_dir=str(folder.parent), log_level=logging.ERROR,
        )  # fmt: skip
        analyzer.set_dataloader_kwargs(DataLoaderKwargs(collate_fn=partial(collate, pad=0)))
        return analyzer

    def _factor_args(self) -> FactorArguments:
        return FactorArguments(strategy=self.settings.strategy, covariance_max_examples=None, lambda_max_examples=None)

    def _score_args(self) -> ScoreArguments:
        return ScoreArguments(
            damping_factor=self.settings.damping,
            query_gradient_low_rank=self.settings.low_rank,
            query_gradient_accumulation_steps=10_000,
        )

    def fit(self, documents: Rows) -> None:
        """Covariances, eigenbases and corrected eigenvalues from these documents; what the folder holds is reused."""
        self._analyzer.fit_all_factors(
            self.settings.strategy, documents, per_device_batch_size=min(self.settings.batch_size, len(documents)),
            factor_args=self._factor_args(),
        )  # fmt: skip

    def scores(self, queries: Rows, documents: Rows) -> Float[Tensor, "query document"]:
        """I(f_q, d) for every query and document. Raises NumericsError where a score is not finite."""
        with _scratch(self._analyzer):
            self._analyzer.compute_pairwise_scores(
                "pairs", self.settings.strategy, queries, documents,
                per_device_query_batch_size=min(self.settings.query_batch_size, len(queries)),
                per_device_train_batch_size=min(self.settings.batch_size, len(documents)),
                score_args=self._score_args(), overwrite_output_dir=True,
            )  # fmt: skip
            found: Tensor = self._analyzer.load_pairwise_scores("pairs")["all_modules"]
        return _finite(found)

    def self_scores(self, rows: Rows) -> Float[Tensor, "document"]:
        """g . (G + lambda)^-1 g of every row's loss gradient; with strategy identity its squared norm."""
        with _scratch(self._analyzer):
            self._analyzer.compute_self_scores(
                "self", self.settings.strategy, rows,
                per_device_train_batch_size=min(self.settings.batch_size, len(rows)),
                score_args=self._score_args(), overwrite_output_dir=True,
            )  # fmt: skip
            found: Tensor = self._analyzer.load_self_scores("self")["all_modules"]
        return _finite(found)


@contextmanager
def _scratch(analyzer: Any) -> Iterator[None]:
    """Scores pass through files of kronfluence's own; they go when read."""
    kept = analyzer.scores_output_dir
    with TemporaryDirectory() as folder:
        analyzer.scores_output_dir = lambda scores_name: Path(folder) / scores_name
        try:
            yield
        finally:
            analyzer.scores_output_dir = kept


def _finite(scores: Tensor) -> Tensor:
    if not torch.isfinite(scores).all():
        raise NumericsError("influence scores are not finite: the curvature has no usable eigenvalues, raise --damping")
    return scores
