"""Effects of single neurons: every one against a hooked forward, the estimate against small interventions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from scipy import stats
from torch import Tensor

from arithcirc.arithmetic.operators import OperandRange
from arithcirc.arithmetic.pairs import Pairs, counterfactuals, legal_pool
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.circuits.neurons import (
    NeuronEffects,
    estimates_by_batch,
    exact_by_layer,
    important,
    neuron_effects,
    ranks,
)
from arithcirc.measure.metrics import METRICS, patching_metrics
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.shapes import configuration, resized, save_random
from arithcirc.models.zoo import named
from arithcirc.training.tokenizer import BOS_ID, build_tokenizer, vocabulary

BUILDERS: dict[str, Callable[[], object]] = {
    "neox-parallel": toys.gpt_neox,
    "neox-sequential": lambda: toys.gpt_neox(parallel=False),
    "gpt2": toys.gpt2,
}
LAST = toys.LAYERS - 1
SOME = (0, 7, 50, 95)
Hooked = Callable[[int, Sequence[int], float], Tensor]


@pytest.fixture(scope="module", params=BUILDERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    return load(str(toys.save(BUILDERS[request.param](), tmp_path_factory.mktemp(request.param))), device="cpu")


@pytest.fixture(scope="module")
def encoder(model: BridgedModel) -> PromptEncoder:
    return prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    pool = legal_pool(OperandRange(0, 20), toys.LIMIT)
    clean = pool[np.random.default_rng(0).permutation(len(pool))[:5]]
    return Pairs(clean, counterfactuals(clean, pool, np.random.default_rng(1))[0])


@pytest.fixture(scope="module")
def estimates(model: BridgedModel, encoder: PromptEncoder, pairs: Pairs) -> Tensor:
    return torch.cat(list(estimates_by_batch(model, encoder, pairs)))


@pytest.fixture(scope="module")
def hooked(model: BridgedModel, encoder: PromptEncoder, pairs: Pairs) -> Hooked:
    """Metrics of full forwards, each with one neuron at `=` moved `step` of the way to the counterfactual's value."""
    tokens, other = (torch.from_numpy(encoder.encode(p)) for p in (pairs.clean, pairs.counterfactual))
    source = model.activations(other, parts={"post"}).post
    answers = (torch.from_numpy(encoder.answers(p.answer)) for p in (pairs.clean, pairs.counterfactual))
    reduce = patching_metrics(model.logits(tokens), *answers)

    def run(layer: int, neurons: Sequence[int], step: float) -> Tensor:
        def edit(part: str, at: int, activation: Tensor) -> Tensor | None:
            if part != "post" or at != layer:
                return None
            edited = activation.clone().unflatten(0, (len(neurons), len(pairs)))
            for row, n in enumerate(neurons):
                edited[row, :, -1, n] += step * (source[layer][:, -1, n] - edited[row, :, -1, n])
            return edited.flatten(0, 1)

        logits = model.logits(tokens.repeat(len(neurons), 1), edit=edit)
        return reduce(logits.unflatten(0, (len(neurons), len(pairs))), slice(0, len(pairs)))

    return run


def test_exact_equals_a_hooked_forward_for_every_neuron(
    model: BridgedModel, encoder: PromptEncoder, pairs: Pairs, hooked: Hooked
) -> None:
    for layer, ours in enumerate(exact_by_layer(model, encoder, pairs, batch_size=700)):
        theirs = hooked(layer, range(toys.HIDDEN), 1.0)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
        if layer or not model.info.parallel:
            assert (theirs[..., 0].abs() > 1e-3).float().mean() > 0.3, "the comparison needs neurons that do something"
        else:
            assert theirs.abs().max() < 1e-5, "a parallel first MLP reads `=` alone, which never varies"


def test_estimate_is_the_slope_of_a_small_patch(estimates: Tensor, hooked: Hooked) -> None:
    """[f(+h) - f(-h)] / 2h, in float32: both logit_diff and twice E have this slope."""
    step = 1e-2
    for layer in range(toys.LAYERS):
        up, down = (hooked(layer, SOME, sign * step) for sign in (1, -1))
        slope = ((up - down) / (2 * step)).transpose(0, 1)
        ours = estimates[:, layer, SOME]
        tolerance = 2e-3 * max(1.0, float(slope[..., 0].abs().max()))
        torch.testing.assert_close(ours, slope[..., 0], rtol=2e-2, atol=tolerance)
        torch.testing.assert_close(ours, 2 * slope[..., 1], rtol=2e-2, atol=2 * tolerance)


def test_estimate_of_the_last_layer_is_direct(toy_model: BridgedModel, pairs: Pairs) -> None:
    """Above the last MLP there is only the final norm: the slope is its derivative, in direct logits."""
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    found = torch.cat(list(estimates_by_batch(toy_model, encoder, pairs)))[:, LAST]
    sides = [torch.from_numpy(encoder.encode(p)) for p in (pairs.clean, pairs.counterfactual)]
    a, b = (toy_model.activations(t, parts={"post"}).post[LAST][:, -1] for t in sides)
    final = toy_model.record(sides[0], parts=()).resid[-1][:, -1]
    answers = [torch.from_numpy(encoder.answers(p.answer)) for p in (pairs.clean, pairs.counterfactual)]
    x = final - final.mean(-1, keepdim=True)
    size = x.pow(2).mean(-1, keepdim=True).add(toy_model.bridge.ln_final.original_component.eps).sqrt()
    values = toy_model.value_vectors(LAST)
    values = values - values.mean(-1, keepdim=True)
    along = torch.einsum("pd,nd->pn", x, values) / toys.WIDTH
    for prompt in range(len(pairs)):
        tangent = (values - along[prompt, :, None] * x[prompt] / size[prompt] ** 2) / size[prompt]
        logits = toy_model.direct_logits(tangent)
        lead = logits[:, answers[0][prompt]] - logits[:, answers[1][prompt]]
        expected = -(b - a)[prompt] * lead
        torch.testing.assert_close(found[prompt], expected.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pad", [None, BOS_ID], ids=["drawn", "zero"])
def test_a_deep_model_has_every_estimate(pairs: Pairs, tmp_path: Path, pad: int | None) -> None:
    """Also where the embedding of BOS is zero, as that of a pad token is: there gradients before `=` are infinite."""
    shape = resized(
        named("google/gemma-3-1b-pt").shape,
        n_layers=12, n_heads=4, d_model=toys.WIDTH, d_head=16, d_mlp=toys.HIDDEN, d_vocab=len(vocabulary(toys.LIMIT)),
    )  # fmt: skip
    assert shape.tied
    config = configuration(shape, **({} if pad is None else {"pad_token_id": pad}))
    model = load(str(save_random(config, tmp_path, build_tokenizer(toys.LIMIT))), device="cpu")
    encoder = prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    assert (model.bridge.original_model.get_input_embeddings().weight[BOS_ID] == 0).all() == (pad is not None)
    effects = neuron_effects(model, encoder, pairs)
    for values in (effects.mean, effects.std, effects.estimate_mean, effects.estimate_std):
        assert np.isfinite(values).all()
    agreement = effects.agreement(operator="+", top=10)
    assert (agreement["spearman"] > 0.8).all()


def test_what_is_cut_before_equals_changes_no_slope_there(
    model: BridgedModel, encoder: PromptEncoder, pairs: Pairs, estimates: Tensor
) -> None:
    tokens, other = (torch.from_numpy(encoder.encode(p)) for p in (pairs.clean, pairs.counterfactual))
    answer, rival = (torch.from_numpy(encoder.answers(p.answer)) for p in (pairs.clean, pairs.counterfactual))
    rows = torch.arange(len(pairs))
    slopes = model.gradients(tokens, lambda logits: logits[rows, answer] - logits[rows, rival]).post
    a, b = (model.activations(t, parts={"post"}).post for t in (tokens, other))
    for layer in range(toys.LAYERS):
        expected = (a[layer] - b[layer])[:, -1].double() * slopes[layer][:, -1].double()
        torch.testing.assert_close(estimates[:, layer], expected, rtol=1e-4, atol=1e-6)


def test_no_difference_no_effect(toy_model: BridgedModel, pairs: Pairs) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    effects = neuron_effects(toy_model, encoder, Pairs(pairs.clean, pairs.clean))
    assert np.abs(effects.mean).max() < 1e-4
    assert np.abs(effects.estimate_mean).max() == 0


@pytest.mark.parametrize("batch_size", [2, 97])
def test_moments_are_over_prompts_and_do_not_depend_on_the_batch_size(
    toy_model: BridgedModel, pairs: Pairs, batch_size: int
) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    rows: list[int] = []
    effects = neuron_effects(toy_model, encoder, pairs, batch_size=batch_size, progress=rows.append)
    values = torch.stack(list(exact_by_layer(toy_model, encoder, pairs)))
    np.testing.assert_allclose(effects.mean, values.mean(2), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(effects.std, values.std(2), rtol=1e-4, atol=2e-5)
    estimates = torch.cat(list(estimates_by_batch(toy_model, encoder, pairs)))
    np.testing.assert_allclose(effects.estimate_mean, estimates.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(effects.estimate_std, estimates.std(0), rtol=1e-4, atol=1e-5)
    assert sum(rows) == len(pairs) * (toys.LAYERS * toys.HIDDEN + 1)


def test_a_single_prompt_has_no_spread(toy_model: BridgedModel, pairs: Pairs) -> None:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    effects = neuron_effects(toy_model, encoder, pairs[:1])
    assert not effects.std.any()
    assert not effects.estimate_std.any()


# -- ranks and agreement, from numbers made up -------------------------------------------------------------------------


def made_up(exact: np.ndarray, estimate: np.ndarray) -> NeuronEffects:
    """Effects without spread; E and kl are logit_diff's, negated."""
    mean = np.stack([exact, -exact, -exact], axis=-1)
    return NeuronEffects(mean, np.zeros_like(mean), estimate, np.zeros_like(estimate), 3)


def test_ranks_are_within_layers_and_ties_go_by_index() -> None:
    assert ranks(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 7.0]])).tolist() == [[3, 1, 2], [2, 3, 1]]


def test_important_are_the_top_of_late_layers() -> None:
    found = important(ranks(np.array([[1.0, 2.0, 3.0]] * 3)), top=2, first_layer=1)
    assert found.tolist() == [[False] * 3, [False, True, True], [False, True, True]]


def test_a_neuron_varying_between_prompts_outranks_a_steady_one() -> None:
    effects = made_up(np.array([[1.0, 0.5]]), np.array([[1.0, 0.5]]))
    spread = effects.std + np.array([0.0, 1.0])[:, None]
    noisy = replace(effects, std=spread)
    assert effects.exact_ranks.tolist() == [[1, 2]]
    assert noisy.exact_ranks.tolist() == [[2, 1]]
    assert noisy.estimate_ranks.tolist() == [[1, 2]]


def test_agreement_has_closed_forms() -> None:
    width = 40
    x = np.linspace(0, 1, width)
    exact = np.stack([x, x, x, x])
    estimate = np.stack([np.exp(5 * x), -x, np.zeros(width), np.roll(x, 5)])
    table = made_up(exact, estimate).agreement(operator="+", top=10).set_index("layer")
    assert table["spearman"][:2].tolist() == pytest.approx([1, -1])
    assert table["pearson"][0] == pytest.approx(stats.pearsonr(x, np.exp(5 * x)).statistic)
    assert table.loc[2, ["spearman", "pearson", "overlap"]].isna().all()
    assert table["overlap"][[0, 1, 3]].tolist() == [1, 0, 0.5]
    assert (table["expected"] == 0.25).all()
    whole = made_up(exact, estimate).agreement(operator="+", top=100)
    assert (whole[["overlap", "expected"]].drop(2) == 1).all(axis=None)


def test_rows_name_every_neuron_under_every_method() -> None:
    rng = np.random.default_rng(0)
    effects = made_up(rng.normal(size=(3, 8)), rng.normal(size=(3, 8)))
    table = effects.frame(operator="-", top=2, first_layer=1)
    assert len(table) == 3 * 8 * 4
    assert not table.duplicated(["layer", "neuron", "method", "metric"]).any()
    assert table.groupby(["layer", "method", "metric"])["rank"].apply(lambda r: sorted(r) == list(range(1, 9))).all()
    flags = table.groupby(["layer", "neuron"])["important"]
    assert (flags.nunique() == 1).all()
    exact = table[(table["method"] == "exact") & (table["metric"] == METRICS[0])]
    assert (exact["important"] == ((exact["rank"] <= 2) & (exact["layer"] >= 1))).all()
    row = exact[(exact["layer"] == 1) & (exact["neuron"] == 5)].iloc[0]
    assert row["effect"] == effects.mean[1, 5, 0]
