"""What the first MLP's neurons answer to in a single number, before any operand meets another.

The model reads [BOS, n] for every number n with a token of its own; `response[n, i]` is the activation of neuron i of
layer 0 at n. A neuron is then labelled with the range, residue or digit pattern that its k = |H| largest responses
agree with best, as in the matching of whole prompts (matching.py), where the score reaches the threshold. "Best" is the
largest score corrected for chance, (score - b) / (1 - b) with b = |H| / numbers, or else the widest range would win.

Renaming the numbers at random shuffles the whole response, so the null needs no draws: hits are hypergeometric, and

    p = min(1, n P(X >= hits))        n heuristics in the group, by the union bound

is never too small. It is weaker than the null of whole prompts, where a renaming leaves the other operand alone: any
smooth response beats it with some range, so a small p of a range means "smooth in n", not "these two ends". Residues
and patterns jump with n, and their p can be read as it is. q is Benjamini-Hochberg over all neurons and groups.
Numbers that a model never read in training (results beyond the operands) answer with noise: cut the responses at the
largest operand before labelling them. Cost: one forward of 2 tokens per number.
Source: Nikankin et al. 2024 (arXiv 2410.21272), appendix; spec section 9.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.heuristics.calibration import hypergeometric, q_values
from arithcirc.heuristics.matching import members_of, score
from arithcirc.heuristics.nulls import corrected
from arithcirc.heuristics.presets import number_preset
from arithcirc.heuristics.ranks import rank_maps
from arithcirc.measure.batches import in_batches
from arithcirc.measure.finite import require_finite
from arithcirc.models.protocol import HookedModel

Progress = Callable[[int], None]


def number_responses(
    model: HookedModel, encoder: PromptEncoder, *, batch_size: int, progress: Progress | None = None
) -> Float[Tensor, "number neuron"]:
    """Activations of layer 0's neurons at n in [BOS, n], for n = 0..limit; float32 on the CPU."""
    numbers = torch.from_numpy(encoder.op1_ids)
    tokens = torch.stack([torch.full_like(numbers, encoder.bos), numbers], dim=1)

    def run(rows: slice) -> Tensor:
        found = model.activations(tokens[rows], parts={"post"}, layers=range(1)).post[0][:, -1].float().cpu()
        require_finite(found, "activations (post of layer 0)", model.info)
        return found

    return torch.cat(list(in_batches(len(tokens), batch_size, run, progress=progress)))


def label_numbers(
    responses: Float[Tensor, "number neuron"], *, preset_name: str = "paper", threshold: float = 0.6
) -> pd.DataFrame:
    """Table `number_neurons`, one row per neuron: its largest response, the number there, and its best heuristic.

    Where no heuristic reaches the threshold, `heuristic` is None, `p` and `q` are NaN, and `score` and `base_rate` are
    those of the best one all the same. Row n of `responses` is the number n.
    """
    maps = responses.T.contiguous().numpy()
    heuristics, prompts = number_preset(preset_name, maps.shape[1] - 1)
    ranks = rank_maps(maps)
    scores = score(ranks, members_of(heuristics, prompts), ends=("top",))
    values, base = scores.ends["top"], scores.size / ranks.n_prompts
    p, tests = _group_p(values, scores.size, [h.group for h in heuristics], ranks.n_prompts)
    fit, row = corrected(values, base), np.arange(len(values))
    reached: np.ndarray = values >= threshold
    labelled: np.ndarray = values.max(1) >= threshold
    best = np.where(labelled, np.where(reached, fit, -np.inf).argmax(1), fit.argmax(1))
    q = q_values(p[row, best], tests.ravel())
    return pd.DataFrame(
        {
            "operator": "all",
            "neuron": row,
            "largest": maps.max(1),
            "at": maps.argmax(1),
            "heuristic": [str(heuristics[i]) if here else None for i, here in zip(best, labelled, strict=True)],
            "score": values[row, best],
            "base_rate": base[best],
            "p": np.where(labelled, p[row, best], np.nan),
            "q": np.where(labelled, q, np.nan),
        }
    )


def _group_p(
    scores: Float[np.ndarray, "neuron heuristic"],
    size: Int[np.ndarray, "heuristic"],
    groups: Sequence[str],
    n_numbers: int,
) -> tuple[Float[np.ndarray, "neuron heuristic"], Float[np.ndarray, "neuron group"]]:
    """p of every score among its group, and the p of each group's best."""
    _, group, members_of = np.unique(groups, return_inverse=True, return_counts=True)
    tail = hypergeometric(scores.ravel(), np.tile(size, len(scores)), n_numbers).reshape(scores.shape)
    p = np.minimum(1, members_of[group] * tail)
    return p, np.stack([p[:, group == g].min(1) for g in range(len(members_of))], axis=1)
