"""What kronfluence asks of a task: the loss of a batch, the measurement of a batch, the layers, the padding.

Curvature is the true Fisher: labels are drawn from the model, by inverting the cumulative distribution at a number in
[0, 1) that belongs to the seed, the pass, the row's number and the position. So factors depend neither on the size of
batches nor on how rows are dealt out to partitions and processes, but for rounding.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from arithcirc.errors import NumericsError
from arithcirc.influence.rows import Batch, row_nll, sampled_labels, summed_nll

Measurement = Callable[[nn.Module, Batch], Tensor]
"""f of a batch, summed over its rows; every row's share may depend on that row alone."""
Progress = Callable[[str, int, int], None]
"""Called after each batch with what is under way, rows done and rows in all."""


def completion_nll(model: nn.Module, batch: Batch) -> Tensor:
    """Weighted sum over rows of the NLL in nats of the labels that count."""
    return summed_nll(logits_of(model, batch), batch["labels"], batch["weight"])


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (row, token, vocab) of a batch."""
    out: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    return out


def loss_by_row(model: nn.Module, batch: Batch) -> Tensor:
    """NLL in nats of each row, weights left out: what a document's gradient is of."""
    return row_nll(logits_of(model, batch), batch["labels"])


class EngineTask:
    """kronfluence's `Task`, by its methods; not derived from it, so that it is imported only where it is used."""

    enable_post_process_per_sample_gradient = False

    def __init__(self, tracked: Sequence[str], measurement: Measurement) -> None:
        self.tracked, self.measurement = list(tracked), measurement
        self.seen: Callable[[int], None] = lambda _: None

    def compute_train_loss(self, batch: Batch, model: nn.Module, sample: bool = False) -> Tensor:
        """Sum of NLL; with `sample` of labels drawn from the model. Raises NumericsError where it is not finite."""
        logits, labels = logits_of(model, batch), batch["labels"]
        if sample:
            labels = sampled_labels(logits, labels, batch["uniform"])
        loss = row_nll(logits, labels).sum()
        self.seen(len(labels))
        return _finite(loss, "loss of the documents")

    def compute_measurement(self, batch: Batch, model: nn.Module) -> Tensor:
        """The caller's f. Raises NumericsError where it is not finite."""
        self.seen(len(batch["labels"]))
        return _finite(self.measurement(model, batch), "measurement of the queries")

    def get_influence_tracked_modules(self) -> list[str]:
        """Names of the tracked layers."""
        return self.tracked

    def get_attention_mask(self, batch: Batch) -> Tensor:
        """Padding is left out of the covariances."""
        return batch["attention_mask"]


def _finite(value: Tensor, what: str) -> Tensor:
    if not torch.isfinite(value.detach()).all():
        raise NumericsError(f"the {what} is {value.detach().sum().item()}: load the model with --dtype float32")
    return value
