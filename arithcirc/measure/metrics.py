"""Numbers read off logits.

Patching metrics (clean run P, patched run P*, answer r, counterfactual answer r'); all are 0 when nothing changed and
positive when the patched component carries the difference between the two prompts:

    logit_diff  [l(r) - l(r')] - [l*(r) - l*(r')]  =  log P*(r')/P(r') + log P(r)/P*(r)        nats
    E           1/2 [ (P*(r') - P(r')) / P(r')  +  (P(r) - P*(r)) / P*(r) ]                    ratio, the paper's
    kl          sum_v P(v) log P(v)/P*(v)                                                      nats

E divides by small probabilities and is heavy-tailed: on a confident model a few prompts carry its mean. logit_diff is
the same two ratios in logarithms, hence robust; rankings use it by default. Each ratio is counted as at most
LARGEST_RATIO, so that means and squares stay finite where P(r') or P*(r) is 0 in any precision.
Source: Nikankin et al. 2024 (arXiv 2410.21272), section 2 (E) and section 3 (normalised logit).
"""

from collections.abc import Callable
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

Metric = Literal["logit_diff", "E", "kl"]
METRICS: tuple[Metric, ...] = ("logit_diff", "E", "kl")
LARGEST_RATIO = 1e30
"""Largest ratio of probabilities in E: its square is finite in float64, and it is itself in float32."""
SMALLEST_GAP = 0.05
"""Faithfulness is undefined where |NL(M) - NL(0)| is below this: the ratio would be noise divided by noise."""


def patching_metrics(
    clean: Float[Tensor, "prompt vocab"], answer: Int[Tensor, "prompt"], other: Int[Tensor, "prompt"]
) -> Callable[[Float[Tensor, "patch prompt vocab"], slice], Float[Tensor, "patch prompt metric"]]:
    """A `Reduce` for the suffix engine: patched logits to the METRICS, float64, in that order."""
    log_p = clean.log_softmax(-1)
    p = log_p.exp()
    minus_entropy = (p * log_p).sum(-1)

    def reduce(logits: Float[Tensor, "patch prompt vocab"], prompts: slice) -> Float[Tensor, "patch prompt metric"]:
        base, log_z = log_p[prompts], logits.logsumexp(-1)
        up = (_at(logits, other[prompts]) - log_z - _at(base, other[prompts])).double()
        down = (_at(base, answer[prompts]) - _at(logits, answer[prompts]) + log_z).double()
        effect = 0.5 * (torch.expm1(up).clamp_max(LARGEST_RATIO) + torch.expm1(down).clamp_max(LARGEST_RATIO))
        expected = einsum(p[prompts], logits, "prompt vocab, patch prompt vocab -> patch prompt")
        kl = (minus_entropy[prompts] - expected + log_z).clamp_min(0).double()
        return torch.stack([up + down, effect, kl], dim=-1)

    return reduce


def normalized_logit(logits: Float[Tensor, "*row vocab"], answer: Int[Tensor, "*row"]) -> Float[Tensor, "*row"]:
    """NL: the answer's logit over the largest, on logits centred over the vocabulary (NL is not shift-invariant).

    0 where all logits are equal: the answer is no likelier than anything else.
    """
    centred = logits - logits.mean(-1, keepdim=True)
    largest = centred.amax(-1)
    return torch.where(largest > 0, _at(centred, answer) / torch.where(largest > 0, largest, 1.0), 0.0)


def verdicts(logits: Float[Tensor, "row vocab"], answer: Int[Tensor, "row"]) -> Float[Tensor, "row verdict"]:
    """Per row: log probability of the answer, its lead (its logit less the largest other one), the token said.

    float64. The log probability stands still where the answer has nearly all of the probability; the lead does not, and
    is below 0 exactly where another token is said.
    """
    log_p = _at(logits.log_softmax(-1), answer)
    others = logits.scatter(-1, answer[:, None], -torch.inf).amax(-1)
    lead = _at(logits, answer).double() - others.double()
    return torch.stack([log_p.double(), lead, logits.argmax(-1).double()], dim=-1)


def faithfulness(
    circuit: Float[Tensor, "... prompt"], empty: Float[Tensor, "prompt"], full: Float[Tensor, "prompt"]
) -> tuple[Float[Tensor, "... prompt"], Float[Tensor, "..."], Bool[Tensor, "prompt"]]:
    """F per prompt, the ratio of means, and which prompts are defined.

    F(c) = (NL(c) - NL(0)) / (NL(M) - NL(0)): 0 with everything ablated, 1 with nothing ablated. Undefined prompts,
    where |NL(M) - NL(0)| < SMALLEST_GAP, are NaN per prompt and left out of the ratio of means.
    """
    gap = full - empty
    defined = gap.abs() >= SMALLEST_GAP
    per_prompt = torch.where(defined, (circuit - empty) / torch.where(defined, gap, 1.0), torch.nan)
    if not defined.any():
        return per_prompt, torch.full(circuit.shape[:-1], torch.nan), defined
    ratio = (circuit - empty)[..., defined].mean(-1) / gap[defined].mean()
    return per_prompt, ratio, defined


def _at(values: Float[Tensor, "*row vocab"], index: Int[Tensor, "..."]) -> Float[Tensor, "*row"]:
    """Values at one vocabulary entry per row; `index` broadcasts over leading axes."""
    index = index.to(values.device).expand(values.shape[:-1])
    return values.gather(-1, index.unsqueeze(-1)).squeeze(-1)
