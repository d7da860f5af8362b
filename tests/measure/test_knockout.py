"""Knockouts at `=` against full forwards with TransformerBridge hooks, on every kind of block."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import toys
from architectures import BUILDERS
from torch import Tensor

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.measure.knockout import (
    Knockouts,
    NeuronSets,
    knock_out,
    mean_values,
    stack_values,
    values_of,
    zero_values,
)
from arithcirc.measure.means import Means
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.load import load

N_PROMPTS, N_SETS, N_ROWS = 5, 6, 24


@pytest.fixture(scope="module", params=BUILDERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BridgedModel:
    folder = toys.save(BUILDERS[request.param](), tmp_path_factory.mktemp(request.param))
    return load(str(folder), device="cpu")


def prompts_of(seed: int, n: int = N_PROMPTS) -> Tensor:
    tokens = torch.randint(3, toys.LIMIT, (n, 5), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = 0
    return tokens


@pytest.fixture(scope="module")
def sets() -> NeuronSets:
    """One empty set, one of a single layer, and some over all layers."""
    rng = np.random.default_rng(0)
    everything = np.array([(layer, n) for layer in range(toys.LAYERS) for n in range(toys.HIDDEN)])
    drawn = [everything[rng.choice(len(everything), size, replace=False)] for size in (1, 7, 90, 200)]
    return NeuronSets.of([everything[:0], everything[everything[:, 0] == 2], *drawn])


@pytest.fixture(scope="module")
def rows() -> Knockouts:
    rng = np.random.default_rng(1)
    sizes = (N_PROMPTS, N_SETS, 4)
    return Knockouts(*(np.concatenate([np.arange(n), rng.integers(n, size=N_ROWS - n)]) for n in sizes))


def all_values(model: BridgedModel) -> list[Tensor]:
    """Zero, mean, and two other prompts: the replacements 0..3."""
    posts = model.activations(prompts_of(9, 20), parts={"post"}).post.values()
    means = Means([], [p.mean(0) for p in posts], 20)
    return stack_values([zero_values(model), mean_values(model, means), values_of(model, prompts_of(2, 2))])


def whole(logits: Tensor, _: np.ndarray) -> Tensor:
    """Keep the logits themselves."""
    return logits


def hooked(
    model: BridgedModel, tokens: Tensor, members: np.ndarray, values: list[Tensor], value: int, n_layers: int = 3
) -> Tensor:
    """The same by TransformerLens's own hooks on a full forward of one prompt."""

    def changing(layer: int) -> tuple[str, Callable[[Tensor, object], Tensor]]:
        mine = [int(n) for at, n in members if at == layer]

        def change(activation: Tensor, hook: object) -> Tensor:
            edited = activation.clone()
            edited[:, -1, mine] = values[layer][value, mine]
            return edited

        return f"blocks.{layer}.mlp.out.hook_in", change

    with torch.no_grad():
        hooks = [changing(layer) for layer in range(n_layers)]
        return model.bridge.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]


def test_equals_full_hooked_forwards(model: BridgedModel, sets: NeuronSets, rows: Knockouts) -> None:
    tokens, values = prompts_of(0), all_values(model)
    ours = knock_out(model, tokens, sets, rows, values, whole)
    changed = 0
    for i in range(len(rows)):
        members = sets.gather(rows.neurons[i : i + 1])[1]
        one = tokens[rows.prompt[i]][None]
        theirs = hooked(model, one, members, values, int(rows.value[i]))
        torch.testing.assert_close(ours[i : i + 1], theirs, rtol=1e-5, atol=1e-5)
        changed += not torch.allclose(theirs, model.logits(one), atol=1e-2)
    assert changed > N_ROWS // 2


def test_knocking_out_nothing_changes_nothing(model: BridgedModel) -> None:
    tokens, order = prompts_of(0), np.arange(N_PROMPTS)
    nothing = NeuronSets.of([np.empty((0, 2), dtype=np.int64)])
    ours = knock_out(model, tokens, nothing, Knockouts(order, order * 0, order * 0), zero_values(model), whole)
    torch.testing.assert_close(ours, model.logits(tokens), rtol=1e-5, atol=1e-5)


def test_knocking_out_a_layer_silences_its_mlp_at_equals(model: BridgedModel) -> None:
    tokens, order = prompts_of(0), np.arange(N_PROMPTS)
    layer = NeuronSets.of([np.array([(1, n) for n in range(toys.HIDDEN)])])
    ours = knock_out(model, tokens, layer, Knockouts(order, order * 0, order * 0), zero_values(model), whole)

    def silence(part: str, at: int, activation: Tensor) -> Tensor | None:
        if part != "post" or at != 1:
            return None
        return torch.cat([activation[:, :-1], torch.zeros_like(activation[:, -1:])], dim=1)

    torch.testing.assert_close(ours, model.logits(tokens, edit=silence), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 11])
def test_batches_do_not_matter(model: BridgedModel, sets: NeuronSets, rows: Knockouts, batch_size: int) -> None:
    tokens, values = prompts_of(0), all_values(model)
    told: list[int] = []
    once = knock_out(model, tokens, sets, rows, values, whole)
    cut = knock_out(model, tokens, sets, rows, values, whole, batch_size=batch_size, progress=told.append)
    torch.testing.assert_close(cut, once, rtol=1e-5, atol=5e-5)  # other batches round otherwise
    assert sum(told) == len(rows)


def test_the_reduction_is_told_which_rows_it_sees(toy_model: BridgedModel, sets: NeuronSets, rows: Knockouts) -> None:
    def numbers(logits: Tensor, at: np.ndarray) -> Tensor:
        return torch.from_numpy(at)[:, None].float()

    found = knock_out(toy_model, prompts_of(0), sets, rows, all_values(toy_model), numbers, batch_size=7)
    assert found[:, 0].tolist() == list(range(len(rows)))


def test_memory_that_does_not_suffice_halves_the_batch(
    toy_model: BridgedModel, sets: NeuronSets, rows: Knockouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, real = all_values(toy_model), BridgedModel.unembed
    once = knock_out(toy_model, prompts_of(0), sets, rows, values, whole)

    def small(most: int) -> Callable[[BridgedModel, Tensor], Tensor]:
        def unembed(self: BridgedModel, resid: Tensor) -> Tensor:
            if len(resid) > most:
                raise torch.OutOfMemoryError("too much")
            return real(self, resid)

        return unembed

    monkeypatch.setattr(BridgedModel, "unembed", small(6))
    torch.testing.assert_close(
        knock_out(toy_model, prompts_of(0), sets, rows, values, whole), once, rtol=1e-5, atol=1e-5
    )
    monkeypatch.setattr(BridgedModel, "unembed", small(0))
    with pytest.raises(EnvironmentFailure, match="single prompt"):
        knock_out(toy_model, prompts_of(0), sets, rows, values, whole)


def test_a_neuron_of_another_model_is_refused(toy_model: BridgedModel) -> None:
    beyond = NeuronSets.of([np.array([(0, 1), (3, 5)])])
    one = np.zeros(1, dtype=np.int64)
    with pytest.raises(RequestError, match=r"L3N5 is not in this model: layers are 0\.\.2"):
        knock_out(toy_model, prompts_of(0), beyond, Knockouts(one, one, one), zero_values(toy_model), whole)
