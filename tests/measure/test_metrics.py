"""Metrics against their definitions, written out."""

import math

import pytest
import torch

from arithcirc.measure.metrics import SMALLEST_GAP, faithfulness, normalized_logit, patching_metrics

CLEAN = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
PATCHED = torch.randn(3, 5, 11, generator=torch.Generator().manual_seed(1))
ANSWER, OTHER = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([5, 6, 7, 8, 9])


def test_patching_metrics_are_their_formulas() -> None:
    values = patching_metrics(CLEAN, ANSWER, OTHER)(PATCHED, slice(0, 5))
    p, q = CLEAN.double().softmax(-1), PATCHED.double().softmax(-1)
    for k in range(3):
        for i in range(5):
            r, s = ANSWER[i], OTHER[i]
            effect = 0.5 * ((q[k, i, s] - p[i, s]) / p[i, s] + (p[i, r] - q[k, i, r]) / q[k, i, r])
            difference = (CLEAN[i, r] - CLEAN[i, s]) - (PATCHED[k, i, r] - PATCHED[k, i, s])
            kl = (p[i] * (p[i] / q[k, i]).log()).sum()
            expected = torch.stack([difference.double(), effect, kl])
            torch.testing.assert_close(values[k, i], expected, rtol=1e-4, atol=1e-5)


def test_logit_difference_is_the_log_of_both_ratios() -> None:
    values = patching_metrics(CLEAN, ANSWER, OTHER)(PATCHED, slice(0, 5))[..., 0]
    p, q = CLEAN.double().softmax(-1), PATCHED.double().softmax(-1)
    rows = torch.arange(5)
    ratios = (q[:, rows, OTHER] / p[rows, OTHER]).log() + (p[rows, ANSWER] / q[:, rows, ANSWER]).log()
    torch.testing.assert_close(values, ratios, rtol=1e-4, atol=1e-5)


def test_nothing_changed_is_zero() -> None:
    values = patching_metrics(CLEAN, ANSWER, OTHER)(CLEAN[None], slice(0, 5))
    torch.testing.assert_close(values, torch.zeros_like(values), atol=2e-6, rtol=0)


def test_a_confident_model_does_not_overflow() -> None:
    clean = torch.zeros(1, 4)
    clean[0, 0] = 60.0
    patched = torch.zeros(1, 1, 4)
    patched[0, 0, 1] = 60.0
    difference, effect, kl = patching_metrics(clean, torch.tensor([0]), torch.tensor([1]))(patched, slice(0, 1))[0, 0]
    assert difference == pytest.approx(120)
    assert effect == pytest.approx(math.exp(60), rel=1e-3)
    assert math.isfinite(kl)


def test_normalised_logit_ignores_a_shift_only_because_it_centres() -> None:
    torch.testing.assert_close(
        normalized_logit(CLEAN, ANSWER), normalized_logit(CLEAN + 7, ANSWER), rtol=1e-4, atol=1e-5
    )
    best = CLEAN.argmax(-1)
    torch.testing.assert_close(normalized_logit(CLEAN, best), torch.ones(5))


def test_faithfulness_anchors_and_guard() -> None:
    full, empty = torch.tensor([1.0, 1.0, 0.5]), torch.tensor([0.0, 0.5, 0.5 - SMALLEST_GAP / 2])
    per_prompt, ratio, defined = faithfulness(torch.stack([full, empty, (full + empty) / 2]), empty, full)
    assert defined.tolist() == [True, True, False]
    assert per_prompt[:, 2].isnan().all()
    torch.testing.assert_close(per_prompt[:, :2].mean(1), torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(ratio, torch.tensor([1.0, 0.0, 0.5]))


def test_faithfulness_undefined_everywhere_is_no_number() -> None:
    same = torch.tensor([0.3, 0.3])
    _, ratio, defined = faithfulness(same[None], same, same)
    assert not defined.any()
    assert ratio.isnan().all()
