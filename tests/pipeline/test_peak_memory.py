"""Peak memory: as predicted, within 15 %, tensor by tensor; batches that fit; what the manifest says of it."""

import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys import counted_rows

from arithcirc.config import CircuitConfig, NeuronConfig, ProbeConfig, PromptConfig
from arithcirc.errors import EnvironmentFailure
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load
from arithcirc.pipeline import memory
from arithcirc.pipeline.job import Job, open_job
from arithcirc.pipeline.memory import HELD, fit_batch_size, held_bytes
from arithcirc.pipeline.peak import measuring, resident_bytes
from arithcirc.pipeline.plan import make_plan
from arithcirc.pipeline.run import run_stages, stages_for
from arithcirc.training.tokenizer import NUMBER_ID

SECTIONS = ("model", "prompts", "circuit", "probe", "neurons")
OPTIONS: dict[str, Any] = {
    "prompts": PromptConfig(operators="-", operands="0..30", n_discover=5, n_evaluate=5, counterfactual_seeds=1),
    "circuit": CircuitConfig(random_circuits=1, n_heads=5),
    "probe": ProbeConfig(prompts=300, epochs=1),
    "neurons": NeuronConfig(top=20, first_layer=1, random_draws=1),
}
COUNTED = ("prompts", "means", "faithfulness", "probe", "neurons", "heads")
"""Stages whose largest tensors are results of operations; `localize` peaks inside one (logsumexp), out of sight."""


class LiveBytes(TorchDispatchMode):
    """Bytes of tensors made inside the context that are still alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.held: dict[int, int] = {}

    def __torch_dispatch__(self, operation: Callable[..., Any], _: Any, given: Any = (), named: Any = None) -> Any:
        output = operation(*given, **(named or {}))
        known = {x.untyped_storage()._cdata for x in tree_leaves((given, named)) if isinstance(x, Tensor)}
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in known and key not in self.held:
                    self.held[key] = size
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.drop, key, size)
        return output

    def drop(self, key: int, size: int) -> None:
        self.held.pop(key, None)
        self.now -= size


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    """A toy with a vocabulary that fills memory, and one answer that is often right."""
    model = toys.gpt_neox(limit=3000)
    with torch.no_grad():
        unembed = model.get_output_embeddings().weight
        direction = torch.nn.functional.normalize(unembed[NUMBER_ID + 1], dim=0)
        unembed[NUMBER_ID + 1] += 20 * direction
        model.gpt_neox.final_layer_norm.bias += 20 * direction
    return load(str(toys.save(model, tmp_path_factory.mktemp("wide") / "wide")), device="cpu")


def opened(model: BridgedModel, out: Path, **options: Any) -> Job:
    return open_job(model, out, **(OPTIONS | options), sections=SECTIONS)


def test_stages_hold_what_was_predicted(wide: BridgedModel, tmp_path: Path) -> None:
    job, found = opened(wide, tmp_path, batch_size=250), {}
    for stage in stages_for("neurons", "heads"):
        predicted = HELD[stage.name](job).device
        with LiveBytes() as live:
            run_stages(job, [stage])
        found[stage.name] = predicted / live.peak
        assert predicted > 0.85 * live.peak, stage.name
    assert {name: found[name] for name in COUNTED} == {name: pytest.approx(1, abs=0.15) for name in COUNTED}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not forget a process's largest memory")
def test_the_manifest_has_predicted_and_measured_memory(toy_model: BridgedModel, tmp_path: Path) -> None:
    job = opened(toy_model, tmp_path, batch_size=512)
    stages = stages_for("localize")
    plan = make_plan(job, stages)
    with counted_rows():
        run_stages(job, stages)
    facts = [job.run.manifest["stages"][stage.name] for stage in stages]
    assert [f["batch_size"] for f in facts] == [512, 512]
    measured = max(f["memory"]["measured"] for f in facts)
    assert max(f["memory"]["predicted"] for f in facts) == pytest.approx(measured, rel=0.15)
    assert plan.memory_bytes == pytest.approx(measured, rel=0.15)
    assert make_plan(job, stages).memory_bytes == 0, "nothing is left to run"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not forget a process's largest memory")
def test_a_peak_is_of_its_own_block() -> None:
    def fill(mb: int) -> None:
        torch.ones(mb * 2**20 // 4)

    with measuring(torch.device("cpu")) as large:
        fill(200)
    before = resident_bytes(torch.device("cpu"))
    with measuring(torch.device("cpu")) as small:
        fill(40)
    assert large.bytes is not None
    assert small.bytes is not None
    assert large.bytes - small.bytes > 120 * 2**20
    assert 30 * 2**20 < small.bytes - before < 60 * 2**20


def test_the_batch_is_lowered_to_what_fits(
    toy_model: BridgedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = stages_for("localize")
    needed = max(held_bytes(opened(toy_model, tmp_path, batch_size=64), s) for s in stages)
    job = opened(toy_model, tmp_path, batch_size=500)
    assert fit_batch_size(job, stages) is None
    monkeypatch.setattr(memory, "free_bytes", lambda _: needed)
    said = fit_batch_size(job, stages)
    assert job.batch_size in (62, 125)
    assert max(held_bytes(job, s) for s in stages) <= needed
    assert said is not None
    assert said.startswith("--batch-size 500 would not fit in the ")
    assert said.endswith(f"{job.batch_size} used")
    monkeypatch.setattr(memory, "free_bytes", lambda _: 100)
    with pytest.raises(
        EnvironmentFailure, match=r"stage prompts needs .* MB on cpu .*--batch-size 1.*--dtype bfloat16"
    ):
        run_stages(job, stages)
    assert not job.run.manifest["stages"], "refused before any work"


def test_a_batch_that_ran_out_of_memory_is_said_once_and_kept(
    toy_model: BridgedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, said = BridgedModel.logits, []

    def small(self: BridgedModel, tokens: Tensor, **options: Any) -> Tensor:
        if len(tokens) > 70:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, tokens, **options)

    monkeypatch.setattr(BridgedModel, "logits", small)
    job = opened(toy_model, tmp_path, batch_size=512)
    stages = stages_for("localize")
    run_stages(job, stages, notice=lambda stage, text: said.append((stage, text)))
    assert said == [("prompts", "batches of 512 ran out of memory: went on with 62")]
    assert [job.run.manifest["stages"][s.name]["batch_size"] for s in stages] == [62, 62]
