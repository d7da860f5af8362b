"""Effects of single MLP neurons at `=`: exact for every neuron, and the first-order estimate beside it.

Exact: each neuron is patched alone at `=`, from the run on the counterfactual into the run on the prompt, by the suffix
engine: its delta (a' - a) v_n enters above the block, one position is replayed, and logit_diff, E and kl are read off
(signs and formulas in measure.metrics; positive = the patch moves the answer towards the counterfactual's).

    estimate of logit_diff   -(a' - a) d[l(r) - l(r')]/da        one forward and one backward for all neurons

To first order both ratios of E are the same two terms, halved: E's estimate is exactly half of logit_diff's, so only
one is stored. Per neuron the mean and standard deviation over prompts are kept; neurons are ranked within their layer
by mean + standard deviation (the paper's released code does so with its estimate; the deviation lets in neurons that
matter on few prompts). Cost: a full forward runs n_layers x n_pos token blocks, a neuron of layer l n_layers - 1 - l.
It does not show what neurons do together: redundant ones are weak alone. With parallel residual the first MLP reads the
token `=` alone, which never varies: all its effects at `=` are 0.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 4.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from arithcirc.arithmetic.pairs import Pairs
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Neuron, Position
from arithcirc.measure.metrics import METRICS, patching_metrics
from arithcirc.models.protocol import Edit, HookedModel
from arithcirc.models.suffix import Patch, SuffixEngine

Progress = Callable[[int], None]
RANKED_BY = METRICS.index("logit_diff")
HELD_BYTES = 2**28
"""Activations of neurons held at once: layers (exact effects) and prompts (estimates) are taken in blocks that fit."""


@dataclass(frozen=True)
class NeuronEffects:
    """Mean and standard deviation over `n` prompts of every neuron's effects; metrics in the order of METRICS.

    Exact effects are NaN in layers below `first_layer`, which were not patched. The estimate is of logit_diff; NaN
    where the gradient at `=` is not finite on some prompt.
    """

    mean: Float[np.ndarray, "layer neuron metric"]
    std: Float[np.ndarray, "layer neuron metric"]
    estimate_mean: Float[np.ndarray, "layer neuron"]
    estimate_std: Float[np.ndarray, "layer neuron"]
    n: int
    first_layer: int = 0

    @property
    def exact_ranks(self) -> Int[np.ndarray, "layer neuron"]:
        """Ranks by exact logit_diff, 1 = strongest of its layer."""
        return ranks(self.mean[..., RANKED_BY] + self.std[..., RANKED_BY])

    @property
    def estimate_ranks(self) -> Int[np.ndarray, "layer neuron"]:
        """Ranks by estimated logit_diff; neurons without an estimate come last."""
        return ranks(self.estimate_mean + self.estimate_std)

    @property
    def n_without_estimate(self) -> int:
        """Neurons whose gradient at `=` is not finite on some prompt."""
        return int(np.isnan(self.estimate_mean).sum())

    def frame(self, *, operator: str, top: int, first_layer: int) -> pd.DataFrame:
        """Rows of the table `neurons`: three exact metrics and the estimate for each neuron of the layers patched.

        Important are the `top` of each layer from `first_layer` on, by exact logit_diff.
        """
        n_layers, width = self.estimate_mean.shape
        chosen = important(self.exact_ranks, top=top, first_layer=first_layer)
        kinds = [("exact", m, self.mean[..., i], self.std[..., i]) for i, m in enumerate(METRICS)]
        kinds.append(("estimate", METRICS[RANKED_BY], self.estimate_mean, self.estimate_std))
        frames, layers = [], np.arange(self.first_layer, n_layers)
        for method, metric, mean, std in kinds:
            columns = {
                "operator": operator,
                "layer": np.repeat(layers, width),
                "neuron": np.tile(np.arange(width), len(layers)),
                "method": method,
                "metric": metric,
                "effect": mean[layers].ravel(),
                "std": std[layers].ravel(),
                "rank": ranks(mean + std)[layers].ravel(),
                "important": chosen[layers].ravel(),
            }
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def agreement(self, *, operator: str, top: int) -> pd.DataFrame:
        """Rows of the table `neuron_agreement`: per layer, does the estimate order neurons as the exact effect does?

        Correlations are of what ranks, mean + standard deviation; `overlap` is the share of the exact top that the
        estimate's top has, `expected` what a random ranking would give. NaN in a layer where nothing has an effect, or
        where a neuron has no estimate.
        """
        exact = self.mean[..., RANKED_BY] + self.std[..., RANKED_BY]
        estimate = self.estimate_mean + self.estimate_std
        both = (self.exact_ranks <= top) & (self.estimate_ranks <= top)
        width = exact.shape[1]
        rows = []
        for layer in range(self.first_layer, len(exact)):
            spearman, pearson = _correlations(exact[layer], estimate[layer])
            overlap = float("nan") if np.isnan(spearman) else float(both[layer].sum()) / min(top, width)
            shares = {"overlap": overlap, "expected": min(top, width) / width}
            rows.append({"layer": layer, "spearman": spearman, "top": top, **shares, "n": width, "pearson": pearson})
        table = pd.DataFrame(rows)
        table.insert(0, "operator", operator)
        return table


def ranks(scores: Float[np.ndarray, "layer neuron"]) -> Int[np.ndarray, "layer neuron"]:
    """1 = largest of its layer; ties by index; NaN last."""
    order = np.argsort(-scores, axis=1, kind="stable")
    places = np.broadcast_to(np.arange(1, scores.shape[1] + 1), scores.shape)
    out = np.empty_like(order)
    np.put_along_axis(out, order, places, axis=1)
    return out


def important(exact_ranks: Int[np.ndarray, "layer neuron"], *, top: int, first_layer: int) -> np.ndarray:
    """True for the `top` neurons of each layer from `first_layer` on."""
    from_here = np.arange(len(exact_ranks)) >= first_layer
    return (exact_ranks <= top) & from_here[:, None]


def _correlations(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """Spearman's and Pearson's; NaN where a side does not vary or has a number that is not finite."""
    if len(x) < 2 or not np.isfinite([x, y]).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), float("nan")
    return float(stats.spearmanr(x, y).statistic), float(stats.pearsonr(x, y).statistic)


# -- computing ----------------------------------------------------------------------------------------------------


def neuron_effects(
    model: HookedModel,
    encoder: PromptEncoder,
    pairs: Pairs,
    *,
    first_layer: int = 0,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> NeuronEffects:
    """Exact and estimated effects of every neuron at `=`. Progress: (neuron, prompt) rows, then prompts.

    Neurons below `first_layer`, whose replays are the longest, are not patched. Values per prompt are held for one
    layer at a time.
    """
    layers = exact_by_layer(model, encoder, pairs, first_layer=first_layer, batch_size=batch_size, progress=progress)
    exact = [(v.mean(1).numpy(), _spread(v.numpy(), axis=1)) for v in layers]
    unpatched = np.full((model.info.d_mlp, len(METRICS)), np.nan)
    exact = [(unpatched, unpatched)] * first_layer + exact
    estimate = _Moments()
    for batch in estimates_by_batch(model, encoder, pairs, batch_size=batch_size):
        estimate.add(batch.numpy())
        if progress is not None:
            progress(len(batch))
    means, stds = (np.stack([np.asarray(pair[i]) for pair in exact]) for i in (0, 1))
    return NeuronEffects(means, stds, estimate.mean, estimate.std, len(pairs), first_layer)


def exact_by_layer(
    model: HookedModel,
    encoder: PromptEncoder,
    pairs: Pairs,
    *,
    first_layer: int = 0,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> Iterator[Float[Tensor, "neuron prompt metric"]]:
    """Exact effects of all neurons of the first layer, of the next one, and so on."""
    every = {layer: range(model.info.d_mlp) for layer in range(first_layer, model.info.n_layers)}
    yield from exact_of(model, encoder, pairs, every, batch_size=batch_size, progress=progress)


def exact_of(
    model: HookedModel,
    encoder: PromptEncoder,
    pairs: Pairs,
    neurons: Mapping[int, Sequence[int]],
    *,
    batch_size: int = 2048,
    progress: Progress | None = None,
) -> Iterator[Float[Tensor, "neuron prompt metric"]]:
    """Exact effects of these neurons of each layer, lowest layer first."""
    if not neurons:
        return
    tokens, other, answer, rival = _tensors(model, encoder, pairs)
    engine = SuffixEngine(model, tokens, parts=set())
    reduce = patching_metrics(engine.clean.logits, answer, rival)
    at, n_layers = encoder.index(Position.EQUALS), model.info.n_layers
    block = max(1, HELD_BYTES // (2 * len(tokens) * _wide_bytes(model, encoder)))
    for first in range(min(neurons), n_layers, block):
        layers = range(first, min(first + block, n_layers))
        engine.hold("post", layers)
        source = model.activations(other, parts={"post"}, layers=layers)
        for layer in sorted(set(layers) & set(neurons)):
            patches = [Patch(Neuron(layer, n), at) for n in neurons[layer]]
            yield engine.run(patches, source, reduce, batch_size=batch_size, progress=progress).cpu()


def estimates_by_batch(
    model: HookedModel, encoder: PromptEncoder, pairs: Pairs, *, batch_size: int = 2048
) -> Iterator[Float[Tensor, "prompt layer neuron"]]:
    """First-order estimates of logit_diff, for batches of prompts; one forward and one backward each.

    NaN where the gradient at `=` is beyond the model's precision although the forward is not: what a norm hands back is
    divided by the size of what it read, layer after layer.
    """
    at = encoder.index(Position.EQUALS)
    fit = max(1, HELD_BYTES // (4 * model.info.n_layers * _wide_bytes(model, encoder)))  # two sides, zeros, slopes
    size = min(batch_size, fit)
    for start in range(0, len(pairs), size):
        rows = np.arange(start, min(start + size, len(pairs)))
        tokens, other, answer, rival = _tensors(model, encoder, pairs[rows])
        with model.editing(_cut_before(at)):
            slopes = model.gradients(tokens, _lead(answer, rival)).post
        clean, source = (model.activations(t, parts={"post"}).post for t in (tokens, other))
        drops = [
            -(source[i][:, at].double() - clean[i][:, at].double()) * slopes[i][:, at].double()
            for i in range(model.info.n_layers)
        ]
        found = torch.stack(drops, dim=1).cpu()
        yield found.where(found.isfinite(), torch.nan)


def _cut_before(at: int) -> Edit:
    """Let no gradient pass through components before position `at`; its own stays, as they do not read what is there.

    Where a residual is zero (a BOS whose embedding is) a norm multiplies gradients by 1 / sqrt(eps), layer after layer,
    and attention's backward turns infinite ones into NaN at every position (0 times infinity).
    """

    def cut(_: str, __: int, activation: Tensor) -> Tensor:
        return torch.cat([activation[:, :at].detach(), activation[:, at:]], dim=1)

    return cut


def _wide_bytes(model: HookedModel, encoder: PromptEncoder) -> int:
    """Bytes of one layer's neurons at all positions of one prompt."""
    return encoder.length * model.info.d_mlp * model.dtype.itemsize


def _lead(
    answer: Int[Tensor, "prompt"], rival: Int[Tensor, "prompt"]
) -> Callable[[Float[Tensor, "prompt vocab"]], Float[Tensor, "prompt"]]:
    """l(r) - l(r') of each prompt."""

    def objective(logits: Float[Tensor, "prompt vocab"]) -> Float[Tensor, "prompt"]:
        both = logits.gather(1, torch.stack([answer, rival], dim=1))
        return both[:, 0] - both[:, 1]

    return objective


def _tensors(model: HookedModel, encoder: PromptEncoder, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens of prompts and counterfactuals, and the tokens of their answers."""
    sides = (pairs.clean, pairs.counterfactual)
    arrays = [*(encoder.encode(s) for s in sides), *(encoder.answers(s.answer) for s in sides)]
    tokens, other, answer, rival = (torch.from_numpy(a).to(model.device) for a in arrays)
    return tokens, other, answer, rival


def _spread(values: np.ndarray, axis: int) -> np.ndarray:
    """Sample standard deviation; 0 for a single prompt, so that it can still be ranked."""
    deviation: np.ndarray = values.std(axis=axis, ddof=min(1, values.shape[axis] - 1))
    return deviation


class _Moments:
    """Mean and standard deviation over rows that arrive in batches."""

    def __init__(self) -> None:
        self.n, self.mean, self._squares = 0, np.zeros(()), np.zeros(())

    def add(self, rows: Float[np.ndarray, "prompt layer neuron"]) -> None:
        """Join a batch's moments with those so far (Chan's update: no difference of large squares)."""
        n, mean = len(rows), rows.mean(0)
        step = mean - self.mean
        self._squares = self._squares + ((rows - mean) ** 2).sum(0) + step**2 * (self.n * n / (self.n + n))
        self.mean = self.mean + step * (n / (self.n + n))
        self.n += n

    @property
    def std(self) -> np.ndarray:
        """Sample standard deviation; 0 for a single row."""
        return np.sqrt(self._squares / max(1, self.n - 1))
