"""Half precision: sums and differences are float32 or wider, and what a precision cannot hold is refused, not averaged.

`overflowing` adds numbers beyond 65504 to the residual stream: float16 cannot hold them, bfloat16 and float32 can.
`overflowing_at_op1` does so at the first operand only and in the last layer, which the logits never see. `sharp` has
logits so far apart that the counterfactual's answer has probability 0 in float32.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from toys import RANKED, SMALL

from arithcirc.arithmetic.operators import ADD, OperandRange, Prompts, fitting_prompts
from arithcirc.arithmetic.pairs import Pairs
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.circuits.neurons import estimates_by_batch, neuron_effects
from arithcirc.circuits.probes import read_residuals
from arithcirc.cli.main import run
from arithcirc.components import Mlp, Neuron, Position
from arithcirc.errors import NumericsError
from arithcirc.heuristics.number_neurons import number_responses
from arithcirc.measure.finite import require_finite
from arithcirc.measure.maps import activation_maps
from arithcirc.measure.means import mean_activations, sampled_mean_activations
from arithcirc.measure.metrics import LARGEST_RATIO, normalized_logit, patching_metrics
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.models.protocol import Activations
from arithcirc.models.suffix import Patch, SuffixEngine
from arithcirc.pipeline.heuristic_stages import as_half
from arithcirc.store import RunFolder

OPERANDS = OperandRange(0, 30)
TOKENS = torch.tensor([[0, 12, 3, 20, 7], [0, 30, 4, 11, 7]])


def overflowing() -> Any:
    model = toys.gpt_neox()
    with torch.no_grad():
        model.gpt_neox.layers[1].mlp.dense_4h_to_h.weight *= 1e5
    return model


@torch.no_grad()
def overflowing_at_op1() -> Any:
    """A neuron of the last layer that tells the first operand from `=` and writes 1e5 where it is on."""
    model = toys.gpt_neox()
    last, seen = model.gpt_neox.layers[-1], []
    handle = last.post_attention_layernorm.register_forward_hook(lambda _, __, y: seen.append(y))
    model(TOKENS)
    handle.remove()
    op1, equals = (seen[0][:, at].mean(0) for at in (1, 4))
    apart = op1 - equals
    last.mlp.dense_h_to_4h.weight[0] = 50 * apart / apart.norm()
    last.mlp.dense_h_to_4h.bias[0] = -25 * (apart / apart.norm()) @ (op1 + equals)
    last.mlp.dense_4h_to_h.weight[:, 0] = 3e4
    return model


def sharp() -> Any:
    model = toys.gpt_neox()
    with torch.no_grad():
        model.get_output_embeddings().weight *= 100
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("precision")
    return {maker.__name__: toys.save(maker(), root / maker.__name__) for maker in MAKERS}


MAKERS = (overflowing, overflowing_at_op1, sharp)


@pytest.fixture(scope="module")
def overflows(folders: dict[str, Path]) -> BridgedModel:
    return load(str(folders["overflowing"]), device="cpu", dtype="float16")


@pytest.fixture(scope="module")
def hidden(folders: dict[str, Path]) -> BridgedModel:
    return load(str(folders["overflowing_at_op1"]), device="cpu", dtype="float16")


@pytest.fixture(scope="module")
def halved(toy_folder: Path) -> BridgedModel:
    return load(str(toy_folder), device="cpu", dtype="bfloat16")


def encoder_of(model: BridgedModel) -> PromptEncoder:
    return prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)


def some_pairs(n: int = 8) -> Pairs:
    legal = fitting_prompts(ADD, OPERANDS, toys.LIMIT)
    order = np.random.default_rng(0).permutation(len(legal))
    return Pairs(legal[order[:n]], legal[order[n : 2 * n]])


def prompts(n: int = 8) -> Prompts:
    return some_pairs(n).clean


# -- reductions -------------------------------------------------------------------------------------------------------


def test_means_of_half_precision_are_means_of_its_values(halved: BridgedModel) -> None:
    """Sums kept in bfloat16 would be off by 1e-2."""
    rng = np.random.default_rng(0)
    means = sampled_mean_activations(
        halved, encoder_of(halved), (ADD,), OPERANDS, per_operator=10**6, batch_size=10**6, rng=rng
    )
    order = np.random.default_rng(0).permutation(31**2)
    tokens = np.stack([np.repeat(np.arange(31), 31), np.tile(np.arange(31), 31)], axis=1)[order]
    every = Prompts(np.full(31**2, "+"), tokens[:, 0], tokens[:, 1], tokens.sum(1))
    values = halved.activations(torch.from_numpy(encoder_of(halved).encode(every)), parts={"z", "post"})
    for layer in range(toys.LAYERS):
        for mine, all_values in ((means.z, values.z), (means.post, values.post)):
            assert mine[layer].dtype == torch.float32
            torch.testing.assert_close(mine[layer], all_values[layer].double().mean(0).float(), rtol=1e-5, atol=1e-6)


def test_the_estimate_differences_activations_in_full(halved: BridgedModel) -> None:
    """The difference of two bfloat16 numbers is rarely one."""
    pairs, encoder = some_pairs(), encoder_of(halved)
    found = torch.cat(list(estimates_by_batch(halved, encoder, pairs)))
    sides = [torch.from_numpy(encoder.encode(p)) for p in (pairs.clean, pairs.counterfactual)]
    answers = [torch.from_numpy(encoder.answers(p.answer)) for p in (pairs.clean, pairs.counterfactual)]

    def lead(logits: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(logits))
        return logits[rows, answers[0]] - logits[rows, answers[1]]

    slopes = halved.gradients(sides[0], lead).post
    clean, other = (halved.activations(side, parts={"post"}).post for side in sides)
    for layer in range(toys.LAYERS):
        change = other[layer][:, -1].double() - clean[layer][:, -1].double()
        torch.testing.assert_close(found[:, layer], -change * slopes[layer][:, -1].double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_leaves_a_model_in_half_precision_is_float32_or_wider(toy_folder: Path, dtype: str) -> None:
    model = load(str(toy_folder), device="cpu", dtype=dtype)
    encoder, pairs = encoder_of(model), some_pairs(3)
    assert model.logits(TOKENS).dtype == model.record(TOKENS, parts=()).logits.dtype == torch.float32
    assert model.direct_logits(model.value_vectors(0)).dtype == torch.float32
    assert activation_maps(model, encoder, pairs.clean, [Neuron(1, 3)], batch_size=8).k.dtype == np.float32
    effects = neuron_effects(model, encoder, pairs)
    assert effects.mean.dtype == effects.std.dtype == effects.estimate_mean.dtype == np.float64
    assert number_responses(model, encoder, batch_size=64).dtype == torch.float32


# -- overflow ---------------------------------------------------------------------------------------------------------


def replay(model: BridgedModel) -> object:
    """A patch that overflows where neither of its two runs does."""
    engine = SuffixEngine(model, TOKENS, parts={"mlp_out"})
    found = model.activations(TOKENS.flip(0), parts={"mlp_out"}).mlp_out
    source = Activations(mlp_out={layer: value * 1e6 for layer, value in found.items()})
    reduce = patching_metrics(engine.clean.logits, torch.tensor([9, 9]), torch.tensor([8, 8]))
    return engine.run([Patch(Mlp(1), 4)], source, reduce, batch_size=8)


FORWARDS: dict[str, Callable[[BridgedModel], object]] = {
    "logits": lambda m: m.logits(TOKENS),
    "activations": lambda m: m.activations(TOKENS, parts={"z"}),
    "record": lambda m: m.record(TOKENS, parts={"z"}),
    "gradients": lambda m: m.gradients(TOKENS, lambda logits: logits[:, 0]),
    "maps": lambda m: activation_maps(m, encoder_of(m), prompts(), [Neuron(1, 0)], batch_size=8),
    "probes": lambda m: read_residuals(m, encoder_of(m), prompts()),
    "means": lambda m: mean_activations(m, encoder_of(m), (ADD,), OPERANDS, batch_size=1024),
    "neurons": lambda m: neuron_effects(m, encoder_of(m), some_pairs()),
}


@pytest.mark.parametrize("forward", FORWARDS)
def test_every_forward_refuses_what_float16_cannot_hold(overflows: BridgedModel, forward: str) -> None:
    with pytest.raises(NumericsError, match=r"NaN or infinite .*float16"):
        FORWARDS[forward](overflows)


def test_a_replayed_patch_refuses_what_float16_cannot_hold(toy_folder: Path) -> None:
    with pytest.raises(NumericsError, match=r"NaN or infinite .*float16"):
        replay(load(str(toy_folder), device="cpu", dtype="float16"))


def test_means_name_the_layer_that_overflowed(toy_folder: Path) -> None:
    """The ends of prompts are run without their logits; here a head's output overflows there and only there."""
    model = load(str(toy_folder), device="cpu", dtype="float16")
    end = encoder_of(model).length - encoder_of(model).index(Position.OP2)

    def overflow(part: str, layer: int, value: torch.Tensor) -> torch.Tensor | None:
        return value * 1e6 if (part, layer) == ("z", 1) and value.shape[1] == end else None

    with model.editing(overflow), pytest.raises(NumericsError, match=r"\(z of layer 1\) in float16: use --dtype bf"):
        mean_activations(model, encoder_of(model), (ADD,), OPERANDS, batch_size=1024)


def test_what_never_reaches_the_logits_is_refused_where_it_is_read(hidden: BridgedModel) -> None:
    encoder = encoder_of(hidden)
    assert hidden.logits(TOKENS).isfinite().all()
    read_residuals(hidden, encoder, prompts(), positions=(Position.EQUALS,))
    with pytest.raises(NumericsError, match="infinite residuals in float16"):
        read_residuals(hidden, encoder, prompts())


def test_single_numbers_are_checked_although_their_logits_are_not_run(toy_model: BridgedModel) -> None:
    weight = toy_model.bridge.original_model.gpt_neox.layers[0].mlp.dense_h_to_4h.bias
    before = weight[5].clone()
    try:
        weight[5] = torch.inf
        with pytest.raises(NumericsError, match=r"\(post of layer 0\) in float32: its weights are at fault"):
            number_responses(toy_model, encoder_of(toy_model), batch_size=64)
    finally:
        weight[5] = before


def test_a_gradient_beyond_the_precision_leaves_the_exact_effects(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neurons have no estimate and no agreement; the exact effects are those of the model as it is."""
    model = load(str(toy_folder), device="cpu", dtype="float16")
    gradients, expected = model.gradients, neuron_effects(model, encoder_of(model), some_pairs())

    def scaled(tokens: torch.Tensor, objective: Callable[[torch.Tensor], torch.Tensor]) -> Activations:
        return gradients(tokens, lambda logits: 1e6 * objective(logits))

    monkeypatch.setattr(model, "gradients", scaled)
    found = neuron_effects(model, encoder_of(model), some_pairs())
    assert np.isfinite(expected.estimate_mean).all()
    assert np.isnan(found.estimate_mean).any()
    np.testing.assert_array_equal(np.isnan(found.estimate_std), np.isnan(found.estimate_mean))
    np.testing.assert_array_equal(found.mean, expected.mean)
    agreement = found.agreement(operator="+", top=5)
    missing = np.isnan(found.estimate_mean).any(1)
    for column in ("spearman", "pearson", "overlap"):
        np.testing.assert_array_equal(agreement[column].isna(), missing)


@pytest.mark.parametrize(("dtype", "advice"), [("float16", "bfloat16 or float32"), ("bfloat16", "float32")])
def test_the_way_out_is_a_wider_type(toy_folder: Path, dtype: str, advice: str) -> None:
    info = load(str(toy_folder), device="cpu", dtype=dtype).info
    require_finite(torch.zeros(2), "numbers", info)
    with pytest.raises(NumericsError, match=f"use --dtype {advice}$"):
        require_finite(torch.tensor([0.0, torch.nan]), "numbers", info)


def test_maps_for_pictures_end_where_float16_does() -> None:
    found = as_half(np.array([1.5, 1e6, -1e6], dtype=np.float32))
    assert found.tolist() == [1.5, 65504, -65504]


# -- probabilities 0 and 1 --------------------------------------------------------------------------------------------


def test_effects_stay_finite_where_a_probability_is_zero() -> None:
    clean, patched = torch.tensor([[900.0, 0.0, -900.0]]), torch.tensor([[[-900.0, 0.0, 900.0]]])
    assert clean.softmax(-1).tolist() == [[1, 0, 0]]
    values = patching_metrics(clean, torch.tensor([0]), torch.tensor([2]))(patched, slice(0, 1))[0, 0]
    assert values.tolist() == [3600, LARGEST_RATIO, 1800]
    assert values.float().isfinite().all()
    assert values.square().isfinite().all()


def test_the_normalised_logit_of_equal_logits_is_zero() -> None:
    assert normalized_logit(torch.full((2, 5), 3.0), torch.tensor([0, 4])).tolist() == [0, 0]


# -- whole runs -------------------------------------------------------------------------------------------------------


def one_line(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = run([str(word) for word in words])
    return code, "".join(line for line in capsys.readouterr().err.splitlines() if line.startswith("arithcirc: "))


def test_overflow_ends_a_run_in_one_line(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    model = folders["overflowing"]
    code, line = one_line(capsys, "localize", model, *SMALL[:4], "--operators", "+", "--dtype", "float16")
    assert code == 2
    assert "overflowing gives NaN or infinite logits" in line
    assert "float32" in line
    for dtype in ("bfloat16", "float32"):
        assert one_line(
            capsys, "localize", model, *SMALL[:4], "--operators", "+", "--dtype", dtype, "--out", dtype
        ) == (0, "")


def test_a_run_with_probabilities_of_zero_has_finite_tables(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert one_line(capsys, "neurons", folders["sharp"], "--operators", "+", *RANKED) == (0, "")
    found = RunFolder.open(tmp_path / "runs" / "sharp" / "main")
    effects = found.table("effects").query("metric == 'E'")
    assert effects["mean"].max() > 1e29
    assert np.isfinite(effects[["mean", "median", "sem"]].to_numpy(dtype=float)).all()
    assert np.isfinite(found.table("neurons")[["effect", "std"]].to_numpy(dtype=float)).all()
    assert all(np.isfinite(values).all() for values in found.arrays("effects").values())
    judged = found.table("faithfulness")
    assert np.isfinite(judged[["probability", "accuracy", "kl"]].to_numpy(dtype=float)).all()
    assert (judged["faithfulness"].isna() == (judged["n"] == 0)).all()
