"""Mean ablation of circuits against one edit at a time."""

import pytest
import torch
from torch import Tensor

from arithcirc.arithmetic.operators import ADD, SUB, OperandRange, legal_prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.circuits.circuit import masks_of
from arithcirc.components import Head, all_heads
from arithcirc.measure.interventions import CircuitMasks, ablate_to_means
from arithcirc.measure.means import Means, mean_activations
from arithcirc.models.bridge import BridgedModel

CIRCUITS = [
    (all_heads(3, 4), (0, 1, 2)),
    ((), ()),
    ((Head(0, 1), Head(2, 3)), (1,)),
    ((Head(1, 0),), (0, 1, 2)),
]


@pytest.fixture(scope="module")
def tokens(toy_model: BridgedModel) -> Tensor:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    return torch.from_numpy(encoder.encode(legal_prompts(ADD, OperandRange(3, 20), 60)[::40]))


@pytest.fixture(scope="module")
def means(toy_model: BridgedModel) -> Means:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    return mean_activations(toy_model, encoder, (ADD, SUB), OperandRange(0, 9), batch_size=200)


def by_hand(
    model: BridgedModel, tokens: Tensor, means: Means, heads: tuple[Head, ...], mlps: tuple[int, ...]
) -> Tensor:
    def edit(part: str, layer: int, value: Tensor) -> Tensor:
        mean = (means.z if part == "z" else means.post)[layer].expand_as(value).clone()
        if part == "post":
            return value if layer in mlps else mean
        for head in heads:
            if head.layer == layer:
                mean[:, :, head.index] = value[:, :, head.index]
        return mean

    return model.logits(tokens, edit=edit)


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_equals_one_edit_per_circuit(toy_model: BridgedModel, tokens: Tensor, means: Means, batch_size: int) -> None:
    masks = masks_of(CIRCUITS, 3, 4)
    ours = ablate_to_means(toy_model, tokens, masks, means, lambda x, _: x, batch_size=batch_size)
    for row, (heads, mlps) in enumerate(CIRCUITS):
        theirs = by_hand(toy_model, tokens, means, heads, mlps)
        torch.testing.assert_close(ours[row], theirs, rtol=1e-5, atol=2e-5)


def test_keeping_everything_is_the_model_and_nothing_is_one_answer(
    toy_model: BridgedModel, tokens: Tensor, means: Means
) -> None:
    masks = masks_of(CIRCUITS[:2], 3, 4)
    full, empty = ablate_to_means(toy_model, tokens, masks, means, lambda x, _: x, batch_size=64)
    torch.testing.assert_close(full, toy_model.logits(tokens), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(empty, empty[:1].expand_as(empty), rtol=1e-5, atol=2e-5)


def test_out_of_memory_is_survived(
    toy_model: BridgedModel, tokens: Tensor, means: Means, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = masks_of(CIRCUITS, 3, 4)
    whole = ablate_to_means(toy_model, tokens, masks, means, lambda x, _: x, batch_size=1000)
    real = BridgedModel.logits

    def small_memory(self: BridgedModel, rows: Tensor, **options: object) -> Tensor:
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, rows, **options)

    monkeypatch.setattr(BridgedModel, "logits", small_memory)
    again = ablate_to_means(toy_model, tokens, masks, means, lambda x, _: x, batch_size=1000)
    torch.testing.assert_close(again, whole, rtol=1e-5, atol=2e-5)


# -- single neurons ---------------------------------------------------------------------------------------------------


def neuron_circuits(neurons: list[Tensor]) -> CircuitMasks:
    """All heads kept, MLPs only through their neurons."""
    heads = torch.ones(len(neurons), 3, 4, dtype=torch.bool)
    return CircuitMasks(heads, torch.zeros(len(neurons), 3, dtype=torch.bool), torch.stack(neurons))


def some_neurons(seed: int, share: float) -> Tensor:
    return torch.rand(3, 96, generator=torch.Generator().manual_seed(seed)) < share


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_neurons_are_kept_one_by_one(toy_model: BridgedModel, tokens: Tensor, means: Means, batch_size: int) -> None:
    sets = [some_neurons(0, 0.1), some_neurons(1, 0.9), some_neurons(2, 0.5)]
    masks = neuron_circuits(sets)
    ours = ablate_to_means(toy_model, tokens, masks, means, lambda x, _: x, batch_size=batch_size)
    for row, kept in enumerate(sets):

        def edit(part: str, layer: int, value: Tensor, kept: Tensor = kept) -> Tensor | None:
            if part == "z":
                return None
            out = means.post[layer].expand_as(value).clone()
            out[..., kept[layer]] = value[..., kept[layer]]
            return out

        torch.testing.assert_close(ours[row], toy_model.logits(tokens, edit=edit), rtol=1e-5, atol=2e-5)


def test_all_neurons_are_the_mlp_and_none_is_its_ablation(
    toy_model: BridgedModel, tokens: Tensor, means: Means
) -> None:
    every, none = torch.ones(3, 96, dtype=torch.bool), torch.zeros(3, 96, dtype=torch.bool)
    found = ablate_to_means(toy_model, tokens, neuron_circuits([every, none]), means, lambda x, _: x, batch_size=1000)
    whole = masks_of([(all_heads(3, 4), (0, 1, 2)), (all_heads(3, 4), ())], 3, 4)
    plain = ablate_to_means(toy_model, tokens, whole, means, lambda x, _: x, batch_size=1000)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(found[0], toy_model.logits(tokens), rtol=1e-5, atol=2e-5)


def test_a_whole_mlp_outweighs_its_neurons_and_circuits_join(
    toy_model: BridgedModel, tokens: Tensor, means: Means
) -> None:
    plain = masks_of([(all_heads(3, 4), (0, 1, 2))], 3, 4)
    none = neuron_circuits([torch.zeros(3, 96, dtype=torch.bool)])
    joined = plain.before(none)
    assert len(joined) == 2
    assert joined.neurons is not None
    ours = ablate_to_means(toy_model, tokens, joined, means, lambda x, _: x, batch_size=1000)
    torch.testing.assert_close(ours[0], toy_model.logits(tokens), rtol=1e-5, atol=2e-5)
    assert plain.before(plain).neurons is None
    assert none.before(plain).neurons is not None
