"""What happens to factors that are stale, half written, not finite or too large; and that nothing global is changed."""

import copy
import gc
import json
import logging
import shutil
import subprocess
import sys

import pytest
import torch
import toys
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from arithcirc.errors import (
    ArithcircError,
    EnvironmentFailure,
    ModelError,
    NumericsError,
    RequestError,
    RunConflictError,
)
from arithcirc.influence import engine as engines
from arithcirc.influence.engine import Engine, Settings, linear_modules
from arithcirc.influence.rows import Row, Rows

LAYERS = 2 * toys.LAYERS


@pytest.fixture(scope="module")
def model():
    return toys.gpt_neox().eval()


@pytest.fixture(scope="module")
def tracked(model):
    return linear_modules(model)


@pytest.fixture(scope="module")
def documents():
    return Rows([Row(tuple((7 * i + j * j) % 60 for j in range(4 + i % 5))) for i in range(40)])


@pytest.fixture(scope="module")
def whole(model, tracked, documents, tmp_path_factory):
    """A folder of finished factors; to read only."""
    folder = tmp_path_factory.mktemp("whole")
    Engine(model, tracked, folder).fit(documents)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it, to damage."""
    return shutil.copytree(whole, tmp_path / "factors")


def refusal(kind: type[ArithcircError], work) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def factors(folder) -> dict[str, dict[str, torch.Tensor]]:
    return {file.stem: load_file(file) for file in sorted((folder / "factors_ekfac").glob("*.safetensors"))}


def same(a, b, tolerance: float = 0.0) -> bool:
    """Equal up to this share of each matrix's largest entry."""
    return a.keys() == b.keys() and all(
        (a[name][layer].double() - b[name][layer]).abs().max() <= tolerance * b[name][layer].abs().max()
        for name in a for layer in a[name]
    )  # fmt: skip


# -- which layers -----------------------------------------------------------------------------------------------------


def test_layers_are_listed_and_what_cannot_be_tracked_is_refused(model, tracked):
    assert tracked == tuple(
        f"gpt_neox.layers.{i}.mlp.{n}" for i in range(toys.LAYERS) for n in ("dense_h_to_4h", "dense_4h_to_h")
    )
    both = linear_modules(model, kinds=("mlp", "attention"))
    assert len(both) == 4 * toys.LAYERS
    assert "gpt_neox.layers.0.attention.query_key_value" in both
    small = {
        "vocab_size": 9,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    llama = LlamaForCausalLM(LlamaConfig(**small, num_key_value_heads=1))
    assert [n.rsplit(".", 1)[1] for n in linear_modules(llama)] == ["gate_proj", "up_proj", "down_proj"]
    assert len(linear_modules(llama, kinds=("attention",))) == 4
    assert "c_fc (Conv1D)" in refusal(ModelError, lambda: linear_modules(GPT2LMHeadModel(toys.gpt2().config)))
    experts = MixtralForCausalLM(MixtralConfig(**small, num_local_experts=2, num_key_value_heads=1))
    assert "cannot be tracked" in refusal(ModelError, lambda: linear_modules(experts))
    assert "embeddings" in refusal(RequestError, lambda: linear_modules(model, kinds=("embeddings",)))


# -- whose factors ----------------------------------------------------------------------------------------------------


def test_factors_of_something_else_are_refused(model, tracked, documents, folder):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.gpt_neox.layers[0].mlp.dense_h_to_4h.weight[0, 0] += 1e-3
    stale = Engine(other, tracked, folder)
    assert "weights" in refusal(RunConflictError, lambda: stale.fit(documents))
    assert "weights" in refusal(RunConflictError, lambda: stale.scores(documents, documents))
    assert "weights" in refusal(RunConflictError, lambda: stale.measures(documents))
    fewer = Engine(model, tracked, folder)
    assert "documents" in refusal(RunConflictError, lambda: fewer.fit(Rows(documents.rows[:5])))
    assert "layers" in refusal(RunConflictError, lambda: Engine(model, tracked[:2], folder).fit(documents))
    assert "seed" in refusal(
        RunConflictError, lambda: Engine(model, tracked, folder, settings=Settings(seed=1)).fit(documents)
    )
    named = Engine(model, tracked, folder, weights="another commit")
    assert "weights" in refusal(RunConflictError, lambda: named.scores(documents, documents))
    (folder / "factors_ekfac.json").unlink()
    assert "nothing says" in refusal(RunConflictError, lambda: fewer.fit(documents))
    (folder / "factors_ekfac.json").write_text("{")
    assert "damaged" in refusal(RunConflictError, lambda: fewer.fit(documents))


def test_scores_need_a_finished_fit(model, tracked, documents, tmp_path):
    unfitted = Engine(model, tracked, tmp_path)
    assert "fit them first" in refusal(RunConflictError, lambda: unfitted.scores(documents, documents))


def test_finished_factors_are_not_computed_again(model, tracked, documents, folder, monkeypatch):
    again = Engine(model, tracked, folder)
    monkeypatch.setattr(Engine, "fit_partition", lambda *_, **__: pytest.fail("computed again"))
    again.fit(documents)


def test_the_seed_decides_alone(model, tracked, documents, whole, tmp_path):
    torch.manual_seed(99)
    Engine(model, tracked, tmp_path / "same", settings=Settings(batch_size=5)).fit(documents)
    Engine(model, tracked, tmp_path / "other", settings=Settings(seed=1)).fit(documents)
    first, same_seed, other = (factors(f) for f in (whole, tmp_path / "same", tmp_path / "other"))
    for name in ("gradient_covariance", "activation_covariance"):
        assert same({name: first[name]}, {name: same_seed[name]}, 1e-4)
    assert not same({"g": first["gradient_covariance"]}, {"g": other["gradient_covariance"]}, 1e-2)


# -- killed, and gone on with -----------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.mark.parametrize("settings", [pytest.param(Settings(), marks=pytest.mark.slow), Settings(data_partitions=2)])
def test_a_fit_killed_anywhere_goes_on_and_ends_the_same(model, tracked, documents, tmp_path, settings, monkeypatch):
    """Killed inside every step in turn: what it leaves is used only where it is whole."""
    Engine(model, tracked, tmp_path / "at once", settings=settings).fit(documents)
    expected, kills, seen = factors(tmp_path / "at once"), 0, set()
    whole_step = Engine._working

    def killed(self, what, *arguments, **options):
        from contextlib import contextmanager

        @contextmanager
        def work():
            with whole_step(self, what, *arguments, **options) as analyzer:
                yield analyzer
                held = frozenset(f.name for f in (tmp_path / "cut").rglob("*.safetensors") if not f.is_symlink())
                if held not in seen:
                    seen.add(held)
                    raise KilledError  # after the files were written, before they are kept

        return work()

    monkeypatch.setattr(Engine, "_working", killed)
    for _ in range(40):
        try:
            Engine(model, tracked, tmp_path / "cut", settings=settings).fit(documents)
            break
        except KilledError:
            kills += 1
            left = tmp_path / "cut" / ".ekfac-left"
            left.mkdir(exist_ok=True)  # what a kill without any clean-up leaves
            (left / "activation_covariance.safetensors").write_bytes(b"half")
    assert kills == (3 if settings.data_partitions == 1 else 2 + 1 + 2)
    assert same(factors(tmp_path / "cut"), expected)
    assert not list((tmp_path / "cut").glob(".ekfac*"))


def test_a_half_moved_stage_is_computed_again(model, tracked, documents, folder):
    before = factors(folder)
    (folder / "factors_ekfac" / "num_lambda_processed.safetensors").unlink()
    again = Engine(model, tracked, folder)
    assert "fit them first" in refusal(RunConflictError, lambda: again.scores(documents, documents))
    again.fit(documents)
    assert same(factors(folder), before)


def test_partitions_add_up_to_the_whole(model, tracked, documents, whole, tmp_path):
    parts = Settings(data_partitions=3, module_partitions=2)
    cut = Engine(model, tracked, tmp_path, settings=parts)
    seen = []
    cut.fit(documents, progress=lambda *now: seen.append(now))
    made, expected = factors(tmp_path), factors(whole)
    for name in ("activation_covariance", "gradient_covariance", "num_activation_covariance_processed"):
        assert same({name: made[name]}, {name: expected[name]}, 1e-5)
    once = Engine(model, tracked, whole)
    assert torch.allclose(cut.scores(documents, documents), once.scores(documents, documents), rtol=1e-3, atol=1.0)
    assert {what for what, _, _ in seen} == {"fitting covariance", "fitting lambda"}
    assert all(0 < done <= total for _, done, total in seen)
    other = Engine(model, tracked, tmp_path, settings=Settings(data_partitions=4))
    other.fit(documents)  # finished: how it was cut no longer matters


# -- numbers and memory -----------------------------------------------------------------------------------------------


def test_numbers_that_are_not_finite_are_one_line(model, tracked, documents, whole, tmp_path):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[0, 0] = float("nan")
    assert "layers.1.mlp.dense_4h_to_h.weight" in refusal(NumericsError, lambda: Engine(broken, tracked, tmp_path))
    wild = copy.deepcopy(model)
    with torch.no_grad():
        wild.embed_out.weight.mul_(3e38) if hasattr(wild, "embed_out") else wild.lm_head.weight.fill_(3e38)
    overflowing = Engine(wild, tracked, tmp_path / "wild")
    assert "loss" in refusal(NumericsError, lambda: overflowing.fit(documents))
    assert not list((tmp_path / "wild").rglob("*.safetensors"))
    undefined = Engine(model, tracked, whole, measurement=lambda network, batch: batch["weight"].sum() * float("nan"))
    assert "measurement" in refusal(NumericsError, lambda: undefined.scores(documents, documents))
    flat = copy.deepcopy(model)
    with torch.no_grad():
        for layer in flat.gpt_neox.layers:
            layer.mlp.dense_4h_to_h.weight.zero_()
            layer.mlp.dense_4h_to_h.bias.zero_()
        flat.lm_head.weight.zero_() if hasattr(flat, "lm_head") else flat.embed_out.weight.zero_()
    level = Engine(flat, tracked, tmp_path / "flat")
    level.fit(documents)  # no gradient anywhere: no eigenvalue to take a tenth of
    assert "not finite" in refusal(NumericsError, lambda: level.scores(documents, documents))


def test_too_little_memory_is_said_before_the_work(model, tracked, documents, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "free_bytes", lambda _: 10_000)
    small = Engine(model, tracked, tmp_path)
    assert "GB" in refusal(EnvironmentFailure, lambda: small.fit(documents))
    assert not list(tmp_path.rglob("*.safetensors"))
    fitted = Engine(model, tracked, whole)
    assert "--low-rank" in refusal(EnvironmentFailure, lambda: fitted.scores(documents, documents))
    assert "--batch-size" in refusal(EnvironmentFailure, lambda: fitted.measures(documents))


def test_the_prediction_counts_factors_exactly(model, tracked, documents, whole):
    engine = Engine(model, tracked, whole)
    held = sum(file.stat().st_size for file in (whole / "factors_ekfac").glob("*.safetensors"))
    assert engine.predict(documents).disk == pytest.approx(held, rel=0.1)
    less = Engine(model, tracked, whole, settings=Settings(module_partitions=LAYERS)).predict(documents, queries=500)
    assert less.covariance < engine.predict(documents).covariance
    assert less.scores < engine.predict(documents, queries=500).scores


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "newton"}, {"damping": -1.0}, {"damping": float("nan")}, {"batch_size": 0}, {"low_rank": 0},
        {"amp": "float8"}, {"data_partitions": 0},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(options):
    refusal(RequestError, lambda: Settings(**options))


def test_requests_that_make_no_sense(model, tracked, documents, whole, tmp_path):
    engine = Engine(model, tracked, tmp_path, settings=Settings(data_partitions=51))
    assert "no documents" in refusal(RequestError, lambda: engine.fit(Rows([])))
    assert "40 documents" in refusal(RequestError, lambda: engine.fit(documents))
    many = Settings(module_partitions=99)
    assert "tracked" in refusal(RequestError, lambda: Engine(model, tracked, tmp_path, settings=many))
    assert "no rows" in refusal(RequestError, lambda: Engine(model, tracked, whole).measures(Rows([])))


# -- what is left as found --------------------------------------------------------------------------------------------


def test_nothing_global_changes(model, tracked, documents, tmp_path):
    before = copy.deepcopy(model.state_dict())
    flags = [p.requires_grad for p in model.parameters()]
    model.train()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    threads, level, frozen = torch.get_num_threads(), logging.getLogger().level, gc.get_freeze_count() > 0
    with torch.no_grad():
        engine = Engine(model, tracked, tmp_path)
        engine.fit(documents)
        engine.scores(documents, documents)
        engine.measures(documents)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads
    assert logging.getLogger().level == level
    assert (gc.get_freeze_count() > 0) == frozen
    assert model.training
    model.eval()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert not any(p.grad is not None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_it_works_inside_inference_mode(model, tracked, documents, whole):
    with torch.inference_mode():
        inside = Engine(model, tracked, whole).scores(documents, documents)
    assert torch.isfinite(inside).all()


def test_an_error_leaves_the_engine_usable(model, tracked, documents, whole):
    wrong = []

    def sometimes(network, batch):
        loss = engines.completion_nll(network, batch)
        return loss * float("nan") if wrong else loss

    engine = Engine(model, tracked, whole, measurement=sometimes)
    expected = engine.scores(documents, documents)
    wrong.append(True)
    with pytest.raises(NumericsError):
        engine.scores(documents, documents)
    wrong.clear()
    assert torch.equal(engine.scores(documents, documents), expected)


def test_kronfluence_is_imported_when_it_is_used_and_said_when_missing():
    code = (
        "import sys, arithcirc.influence.engine, arithcirc.influence.parallel\n"
        "assert 'kronfluence' not in sys.modules\n"
        "sys.modules['kronfluence'] = None\n"
        "from arithcirc.influence import kron\n"
        "from arithcirc.errors import RequestError\n"
        "try: kron.kronfluence()\n"
        "except RequestError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install --no-deps kronfluence==1.0.1" in said
    assert json.dumps(said).count("\\n") == 1
