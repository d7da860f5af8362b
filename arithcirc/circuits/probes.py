"""Linear probes: where the answer can be read by a linear classifier.

For every site (a layer's output at a position, or a head's output) one multinomial logistic regression from the
activation x, of size d, to the answers that occur,

    p(class | x) = softmax(W_site [(x - mean) / std, 1]),    loss = -log p(answer),

with mean and std per feature of the training examples. All sites are trained at once as one tensor (site, d + 1, class)
by Adam on the same minibatches, so a site's result does not depend on the others. After each epoch the loss on a
validation split is taken; a site keeps the weights of its best epoch and stops after PATIENCE epochs without a better
one. Accuracy is of a held-out fifth that neither training nor stopping saw.
The paper trains with Adam, step 3e-4, batches of 32, on 80% of the correct prompts and tests on 20%. Here the
validation split is carved out of the 80%, and step and batch are options with defaults 1e-2 and 256: on the shipped
model's subtraction it reads .41 .66 .99 .99 after layers 2 to 5, where the paper's step and batch, still improving
after 60 epochs, read .36 .62 .98 .99 in six times the time.

Cost: 2 d (classes) multiply-adds per site, example and epoch. What it does not show: a decodable answer need not be
used, and an undecodable one may be there in a form that is not linear or needs more examples; a class without a
training example is never predicted. Above all a linear probe computes: from a sum of two operand vectors on a good
scale it reads coarse answers (small products, zero quotients) that the model has not computed.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 3 and appendix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import PATCHED_POSITIONS, Position
from arithcirc.errors import RequestError
from arithcirc.measure.batches import batches, in_batches
from arithcirc.measure.finite import require_finite
from arithcirc.measure.intervals import wilson
from arithcirc.models.fit import logit_rows, number_bytes, record_bytes
from arithcirc.models.protocol import HookedModel, ModelInfo

Progress = Callable[[int], None]
HELD_OUT = 0.2
VALIDATION = 0.2
"""Share of the examples that are not held out on which training is stopped."""
PATIENCE = 5
FEWEST = 10
"""Examples without which there is nothing to split."""
TRAINING_BYTES = 2**30
"""Sites are trained in groups whose examples, weights, gradients and Adam moments fit in this; groups change no result.
"""
READ_BYTES = 2**30
"""Residuals held at once, with the copy of the correct prompts' ones: layers are read in blocks that fit."""
RECORD_BYTES = 2**28
"""Residuals, keys and values of all layers that a forward leaves behind: prompts are read in batches that fit."""


@dataclass(frozen=True)
class Probes:
    """What each site's probe reads off `n` held-out examples; `epochs` is the epoch whose weights were kept.

    `loss` is the validation loss of the kept weights, in nats. `base_rate` is the share of the most frequent class
    among the held-out examples.
    """

    correct: Int[np.ndarray, "site"]
    n: int
    base_rate: float
    epochs: Int[np.ndarray, "site"]
    loss: Float[np.ndarray, "site"]

    @property
    def accuracy(self) -> Float[np.ndarray, "site"]:
        """Share of held-out examples read correctly."""
        return self.correct / self.n


class _Split(NamedTuple):
    train: Int[Tensor, "chosen"]
    validation: Int[Tensor, "chosen"]
    test: Int[Tensor, "chosen"]


def train_probes(
    features: Float[Tensor, "site example d"],
    labels: Int[Tensor, "example"],
    *,
    n_classes: int,
    learning_rate: float,
    batch: int,
    epochs: int,
    generator: Generator,
    progress: Progress | None = None,
) -> Probes:
    """Train one probe per site on the same examples. Raises RequestError for fewer than FEWEST examples.

    `labels` are 0 .. n_classes - 1. `progress` counts epochs of sites; those that a stopped site leaves out are told
    when it stops, so the total is always sites x epochs.
    """
    if len(labels) < FEWEST:
        raise RequestError(f"{len(labels)} examples are too few for a probe: give {FEWEST} or more")
    split = _split(len(labels), generator)
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    group = max(1, TRAINING_BYTES // site_bytes(features.shape[1], features.shape[2], n_classes))
    parts = [
        _train_group(part, labels.to(part.device), split, n_classes, learning_rate, batch, epochs, seed, progress)
        for part in batches(features, group)
    ]
    correct, epoch, loss = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    counts = labels[split.test.to(labels.device)].bincount()
    return Probes(correct, len(split.test), float(counts.max() / counts.sum()), epoch, loss)


def site_bytes(n: int, width: int, n_classes: int) -> int:
    """Training one site: its n examples in float32, and weights, best weights, two moments, gradient and step."""
    return 4 * (width + 1) * (n + 7 * n_classes)


def join_probes(parts: Sequence[Probes]) -> Probes:
    """Probes of several groups of sites, trained on the same examples, as one."""
    correct, epochs, loss = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("correct", "epochs", "loss")
    )
    return Probes(correct, parts[0].n, parts[0].base_rate, epochs, loss)


def _split(n: int, generator: Generator) -> _Split:
    """A random fifth to test; of the rest a random fifth to stop on; at least one example each."""
    order = torch.randperm(n, generator=generator, device=generator.device).cpu()
    n_test = max(1, round(n * HELD_OUT))
    n_validation = max(1, round((n - n_test) * VALIDATION))
    stop = n_test + n_validation
    return _Split(train=order[stop:], validation=order[n_test:stop], test=order[:n_test])


def _standardised(features: Float[Tensor, "site example d"], split: _Split) -> Float[Tensor, "site example width"]:
    """Zero mean and unit spread over the training examples, per site and feature, and a column of ones.

    Examples in the order of the split: to train, to stop on, to test. Written once, in place.
    """
    order = torch.cat(split).to(features.device)
    n_sites, n, d = features.shape
    x = torch.ones(n_sites, n, d + 1, device=features.device)
    for site, values in zip(x, features, strict=True):
        site[:, :-1] = values[order]
        seen = site[: len(split.train), :-1]
        mean, spread = seen.mean(0), seen.std(0, correction=0)
        site[:, :-1].sub_(mean).div_(torch.where(spread > 1e-6, spread, 1.0))
    return x


def _train_group(
    features: Float[Tensor, "site example d"],
    labels: Int[Tensor, "example"],
    split: _Split,
    n_classes: int,
    learning_rate: float,
    batch: int,
    epochs: int,
    seed: int,
    progress: Progress | None,
) -> tuple[Int[Tensor, "site"], Int[Tensor, "site"], Float[Tensor, "site"]]:
    """Held-out correct answers, kept epoch and its validation loss, of sites that fit in memory together."""
    order = Generator().manual_seed(seed)
    x, y = _standardised(features, split), labels[torch.cat(split).to(labels.device)]
    n_train, n_seen = len(split.train), len(split.train) + len(split.validation)
    fit = _Fit(len(x), x.shape[2], n_classes, x.device)
    for epoch in range(1, epochs + 1):
        for rows in batches(torch.randperm(n_train, generator=order).to(x.device), batch):
            fit.step(x[fit.active[:, None], rows], y[rows], learning_rate)
        stop_on = torch.bmm(x[fit.active, n_train:n_seen], fit.weights)
        going = fit.keep_best(_loss(stop_on, y[n_train:n_seen]), epoch)
        left_out = int((~going).sum()) * (epochs - epoch)
        if progress is not None:
            progress(len(going) + left_out)
        if not going.all():
            fit.narrow(going)
        if not len(fit.active):
            break
    read = torch.bmm(x[:, n_seen:], fit.kept).argmax(-1)
    return (read == y[n_seen:]).sum(1), fit.kept_epoch, fit.kept_loss


def _loss(logits: Float[Tensor, "site example class"], labels: Int[Tensor, "example"]) -> Float[Tensor, "site"]:
    chosen = labels.expand(len(logits), -1).unsqueeze(-1)
    return (logits.logsumexp(-1) - logits.gather(-1, chosen).squeeze(-1)).mean(1)


class _Fit:
    """Weights and Adam's moments of the sites still training (`active`), and the best weights of all sites."""

    def __init__(self, n_sites: int, width: int, n_classes: int, device: torch.device) -> None:
        self.weights = torch.zeros(n_sites, width, n_classes, device=device)
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.kept = torch.zeros_like(self.weights)
        self.kept_loss = torch.full((n_sites,), torch.inf, device=device)
        self.kept_epoch = torch.zeros(n_sites, dtype=torch.int64, device=device)
        self.active = torch.arange(n_sites, device=device)
        self.steps = 0

    def step(
        self, x: Float[Tensor, "site example width"], labels: Int[Tensor, "example"], learning_rate: float
    ) -> None:
        """One step of Adam (0.9, 0.999, 1e-8) on the mean loss; its gradient is x^T (p - onehot) / n."""
        self.steps += 1
        error = torch.bmm(x, self.weights).softmax(-1)
        error[:, torch.arange(len(labels), device=labels.device), labels] -= 1
        gradient = torch.bmm(x.transpose(1, 2), error).div_(len(labels))
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        spread = (self.second / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
        self.weights.addcdiv_(self.first, spread, value=-learning_rate / (1 - 0.9**self.steps))

    def keep_best(self, loss: Float[Tensor, "site"], epoch: int) -> Bool[Tensor, "site"]:
        """Keep the weights of active sites whose validation loss is their best so far; True where one goes on."""
        better = loss < self.kept_loss[self.active]
        sites = self.active[better]
        self.kept[sites], self.kept_loss[sites], self.kept_epoch[sites] = self.weights[better], loss[better], epoch
        return epoch - self.kept_epoch[self.active] < PATIENCE

    def narrow(self, going: Bool[Tensor, "site"]) -> None:
        """Go on with these of the active sites."""
        self.active, self.weights = self.active[going], self.weights[going]
        self.first, self.second = self.first[going], self.second[going]


# -- the residual stream ----------------------------------------------------------------------------------------------


def read_residuals(
    model: HookedModel,
    encoder: PromptEncoder,
    prompts: Prompts,
    *,
    positions: Sequence[Position] = PATCHED_POSITIONS,
    layers: range | None = None,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, "site example d_model"], Bool[Tensor, "example"]]:
    """The residual stream after each of these layers (None: all) at these positions (sites layer by layer), and which
    prompts are answered correctly. `progress` counts prompts."""
    tokens, answers = torch.from_numpy(encoder.encode(prompts)), torch.from_numpy(encoder.answers(prompts.answer))
    where, info = [encoder.index(p) for p in positions], model.info
    wanted = range(info.n_layers) if layers is None else layers
    found = torch.empty(len(wanted), len(where), len(tokens), info.d_model, dtype=model.dtype, device=model.device)
    correct = torch.empty(len(tokens), dtype=torch.bool, device=model.device)

    def run(rows: slice) -> None:
        seen = model.record(tokens[rows], parts=())
        for row, layer in enumerate(wanted):
            found[row, :, rows] = rearrange(seen.resid[layer + 1][:, where], "prompt pos d -> pos prompt d")
        require_finite(found[:, :, rows], "residuals", info)
        correct[rows] = seen.logits.argmax(-1) == answers[rows].to(model.device)

    most = max(1, RECORD_BYTES // record_bytes(info, encoder.length))
    for _ in in_batches(len(tokens), min(batch_size, most, logit_rows(info.d_vocab)), run, progress=progress):
        pass
    return rearrange(found, "layer pos prompt d -> (layer pos) prompt d"), correct


def layer_blocks(info: ModelInfo, n_prompts: int, n_positions: int, *, held_bytes: int = READ_BYTES) -> list[range]:
    """Layers in blocks whose residuals at so many positions fit in `held_bytes`, twice."""
    one = 2 * n_positions * n_prompts * info.d_model * number_bytes(info)
    size = max(1, held_bytes // max(1, one))
    return [range(i, min(i + size, info.n_layers)) for i in range(0, info.n_layers, size)]


# -- the first layer that reads the answer ----------------------------------------------------------------------------

RISE = 1 / 3
"""Share of the way from the base rate to the best layer's accuracy at which the answer counts as read."""


@dataclass(frozen=True)
class FirstLayer:
    """The first heuristics layer, the accuracies it was chosen by, and the rule as a sentence with its numbers."""

    layer: int
    accuracy: float
    best: float
    base_rate: float
    rule: str


def first_heuristics_layer(
    correct: Int[np.ndarray, "layer"], n: int, base_rate: float, *, parallel: bool = False
) -> FirstLayer:
    """First layer after which the probe at `=` reads the answer: RISE of the way from the base rate to the best layer.

    The threshold is inclusive on purpose: a layer that is left out hides its neurons, one too many only costs time.
    On the shipped model a third lies on the steep part of each curve, where other probes give the same layer; at a
    half, division changes between layers 1 and 2. In a `parallel` model layer 0 is not eligible: its MLP at `=` has
    seen the token `=` only, so what is read after layer 0 is a sum of head outputs. `correct` counts the held-out
    examples read correctly after each layer, of `n`. Where no layer's 95% interval lies above the base rate, the
    layer is 0 and the rule says so.
    """
    accuracy = correct / n if n else np.full(len(correct), np.nan)
    earliest = 1 if parallel and len(correct) > 1 else 0
    top = earliest + int(correct[earliest:].argmax())
    best, low = float(accuracy[top]), wilson(int(correct[top]), n)[0]
    if not low > base_rate:
        rule = f"no layer's probe at = exceeds base rate {base_rate:.3f} (best {best:.3f}, n {n}): layer 0 is taken"
        return FirstLayer(0, float(accuracy[0]), best, base_rate, rule)
    threshold = base_rate + RISE * (best - base_rate)
    layer = earliest + int((accuracy[earliest:] >= threshold).argmax())
    given = " (layer 0 not counted: its MLP sees = only)" if earliest else ""
    rule = (
        f"first layer{given} whose probe at = reads at least {threshold:.3f}, a third of the way from the base rate "
        f"{base_rate:.3f} to the best, {best:.3f} (layer {top}): {accuracy[layer]:.3f} after layer {layer}, n {n}"
    )
    return FirstLayer(layer, float(accuracy[layer]), best, base_rate, rule)
