"""The suffix engine against full forwards with TransformerBridge hooks: every component, every position."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import pytest
import torch
import toys
from architectures import BUILDERS, MOSTLY_SLOW
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arithcirc.components import Component, Head, Mlp, Neuron, all_heads, all_mlps
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.fit import Limit
from arithcirc.models.load import load
from arithcirc.models.protocol import Activations
from arithcirc.models.suffix import Patch, SuffixEngine

PARTS = {"z", "post", "mlp_out"}
POSITIONS = (1, 2, 3, 4)
N_PROMPTS = 6
NEURONS = tuple(Neuron(layer, n) for layer in range(toys.LAYERS) for n in range(toys.HIDDEN))
COMPONENTS: tuple[Component, ...] = (
    *all_heads(toys.LAYERS, toys.HEADS),
    *all_mlps(toys.LAYERS),
    *NEURONS,
)


def keep(logits: Tensor, prompts: slice) -> Tensor:
    """Reduce to the logits themselves."""
    return logits


@pytest.fixture(scope="module", params=BUILDERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    return load(str(toys.save(BUILDERS[request.param](), tmp_path_factory.mktemp(request.param))), device="cpu")


@pytest.fixture(scope="module")
def clean(model: BridgedModel) -> Tensor:
    return prompts_of(0)


@pytest.fixture(scope="module")
def source(model: BridgedModel) -> Activations:
    return model.activations(prompts_of(1), parts=PARTS)


@pytest.fixture(scope="module")
def engine(model: BridgedModel, clean: Tensor) -> SuffixEngine:
    return SuffixEngine(model, clean, parts=PARTS)


def prompts_of(seed: int) -> Tensor:
    tokens = torch.randint(3, toys.LIMIT, (N_PROMPTS, 5), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = 0
    return tokens


def hooked(model: BridgedModel, clean: Tensor, source: Activations, patches: list[Patch]) -> Tensor:
    """The same patches, all of one kind and layer, by TransformerLens's own hook on one full forward of all rows."""
    kind, layer = type(patches[0].component), patches[0].component.layer

    def change(activation: Tensor, hook: object) -> Tensor:
        edited = activation.clone().view(len(patches), N_PROMPTS, *activation.shape[1:])
        for rows, patch in zip(edited, patches, strict=True):
            at, component = patch.index, patch.component
            if isinstance(component, Head):
                width = model.info.d_head
                flat = rows.view(*rows.shape[:2], -1)
                flat[:, at, component.index * width : (component.index + 1) * width] = source.z[layer][
                    :, at, component.index
                ]
            elif isinstance(component, Neuron):
                rows[:, at, component.index] = source.post[layer][:, at, component.index]
            else:
                rows[:, at] = source.mlp_out[layer][:, at]
        return edited.view(activation.shape)

    written = "ln2_post.hook_out" if model.info.post_norm else "mlp.hook_out"
    names = {Head: "attn.hook_z", Neuron: "mlp.out.hook_in", Mlp: written}
    with torch.no_grad():
        name = f"blocks.{layer}.{names[kind]}"
        logits = model.bridge.run_with_hooks(clean.repeat(len(patches), 1), fwd_hooks=[(name, change)])[:, -1]
    return logits.view(len(patches), N_PROMPTS, -1)


def every_patch() -> Iterator[Patch]:
    return (Patch(c, p) for p in POSITIONS for c in COMPONENTS)


def test_equals_hooked_forwards_everywhere(
    model: BridgedModel, engine: SuffixEngine, clean: Tensor, source: Activations
) -> None:
    patches = list(every_patch())
    ours = engine.run(patches, source, keep, batch_size=1000)
    alike = groupby(patches, key=lambda p: (type(p.component), p.component.layer))
    theirs = torch.cat([hooked(model, clean, source, list(some)) for _, some in alike])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    moved = (theirs - engine.clean.logits).abs().amax((1, 2))
    assert (moved > 1e-3).sum() > len(patches) // 2, "the comparison needs patches that do something"


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 300), order=st.randoms(use_true_random=False))
def test_batch_size_and_order_change_nothing(
    engine: SuffixEngine, source: Activations, batch_size: int, order: object
) -> None:
    patches = list(every_patch())[::60]
    whole = engine.run(patches, source, keep, batch_size=10_000)
    shuffled = list(range(len(patches)))
    order.shuffle(shuffled)
    again = engine.run([patches[i] for i in shuffled], source, keep, batch_size=batch_size)
    torch.testing.assert_close(again, whole[shuffled], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_patching_nearly_the_same_values_changes_nearly_nothing(engine: SuffixEngine) -> None:
    patches = list(every_patch())[::3]
    own = engine.clean.activations
    near = replace(own, **{part: {i: x * (1 + 1e-7) for i, x in getattr(own, part).items()} for part in PARTS})
    ours = engine.run(patches, near, keep, batch_size=500)
    torch.testing.assert_close(ours, engine.clean.logits.expand_as(ours), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_patches_that_change_nothing_are_not_run(
    engine: SuffixEngine, source: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[Patch] = []
    real = SuffixEngine._tile

    def watched(self: SuffixEngine, part: list[Patch], *rest: object) -> Tensor:
        run.extend(part)
        return real(self, part, *rest)

    monkeypatch.setattr(SuffixEngine, "_tile", watched)
    own = engine.clean.activations
    patches = [Patch(c, 2) for c in (Head(1, 2), Head(1, 3), Mlp(0), Mlp(1), Neuron(1, 5), Neuron(1, 6))]
    assert torch.equal(engine.run(patches, own, keep, batch_size=50), engine.clean.logits.expand(6, -1, -1))
    assert run == []
    z, post = ({i: x.clone() for i, x in part.items()} for part in (own.z, own.post))
    mixed = replace(own, z=z, mlp_out=dict(own.mlp_out), post=post)
    mixed.z[1][0, 2, 3] += 1
    mixed.mlp_out[1] = source.mlp_out[1]
    mixed.post[1][4, 2, 5] += 1
    moved = engine.run(patches, mixed, keep, batch_size=50) != engine.clean.logits
    assert run == [patches[i] for i in (1, 3, 4)]
    assert moved.any(-1).any(-1).tolist() == [False, True, False, True, True, False]


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_last_layer_reaches_only_its_own_position(engine: SuffixEngine, source: Activations) -> None:
    last = toys.LAYERS - 1
    patches = [Patch(c, p) for p in POSITIONS[:-1] for c in (Head(last, 0), Mlp(last), Neuron(last, 3))]
    ours = engine.run(patches, source, keep, batch_size=500)
    torch.testing.assert_close(ours, engine.clean.logits.expand_as(ours), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_a_patch_leaves_earlier_positions_and_lower_layers_clean(
    model: BridgedModel, engine: SuffixEngine, clean: Tensor, source: Activations
) -> None:
    """What the engine takes for granted, seen in a full forward with the patch applied."""

    def patch(part: str, layer: int, value: Tensor) -> Tensor | None:
        if part != "z" or layer != 1:
            return None
        edited = value.clone()
        edited[:, 3, 2] = source.z[1][:, 3, 2]
        return edited

    with model.editing(patch):
        patched = model.record(clean, parts=())
    for layer, (a, b) in enumerate(zip(engine.clean.resid, patched.resid, strict=True)):
        torch.testing.assert_close(a[:, :3], b[:, :3])
        if layer <= 1:
            torch.testing.assert_close(a, b)
        else:
            assert (a[:, 3:] - b[:, 3:]).abs().max() > 1e-3


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_progress_counts_every_row(engine: SuffixEngine, source: Activations) -> None:
    rows: list[int] = []
    patches = list(every_patch())[::30]
    engine.run(patches, source, keep, batch_size=7, progress=rows.append)
    assert sum(rows) == len(patches) * N_PROMPTS


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_out_of_memory_halves_the_batch(
    engine: SuffixEngine, source: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = list(every_patch())[:20]
    whole = engine.run(patches, source, keep, batch_size=1000)
    tried: list[int] = []
    real = SuffixEngine._tile

    def small_memory(self: SuffixEngine, part: list[Patch], index: int, prompts: slice, *rest: object) -> Tensor:
        rows = len(part) * (prompts.stop - prompts.start)
        tried.append(rows)
        if rows > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, part, index, prompts, *rest)

    monkeypatch.setattr(SuffixEngine, "_tile", small_memory)
    monkeypatch.setattr(engine, "_limit", Limit(1000))
    torch.testing.assert_close(engine.run(patches, source, keep, batch_size=1000), whole, rtol=1e-5, atol=2e-5)
    assert sum(rows > 8 for rows in tried) < 8, "a size that failed is not tried again and again"


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_out_of_memory_with_one_row_is_said(
    engine: SuffixEngine, source: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(SuffixEngine, "_tile", no_memory)
    monkeypatch.setattr(engine, "_limit", Limit(1000))
    with pytest.raises(EnvironmentFailure, match="out of memory with a single prompt"):
        engine.run([Patch(Mlp(0), 1)], source, keep, batch_size=4)


@pytest.mark.parametrize("model", MOSTLY_SLOW, indirect=True)
def test_bos_is_not_patched(engine: SuffixEngine, source: Activations) -> None:
    with pytest.raises(RequestError, match=r"positions 1\.\.4; position 0"):
        engine.run([Patch(Mlp(0), 0)], source, keep, batch_size=4)
