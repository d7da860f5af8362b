"""Counts agree with torch's, with closed forms, and between a model and the same model without values."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import arithcirc as ac
from arithcirc.components import all_heads, all_mlps
from arithcirc.errors import RequestError
from arithcirc.measure.cost import H200, Cost, Kernel, Machine, counting
from arithcirc.measure.maps import activation_maps
from arithcirc.models.bridge import BridgedModel
from arithcirc.models.built import built
from arithcirc.models.shapes import Shape
from arithcirc.training.tokenizer import build_tokenizer

LIMIT, PROMPTS = 40, 6
SHAPES = {
    "neox": Shape("GPTNeoXForCausalLM", 3, 4, 32, 96, 64, rotary=0.25, n_positions=32),
    "llama": Shape("LlamaForCausalLM", 3, 4, 32, 48, 64, n_kv_heads=2, n_positions=32),
}
ROWS, TWO = torch.tensor([3, 5]), torch.ones(2, 10)
MACHINE = Machine("a machine", flops=100.0, bandwidth=10.0, launch=1.0)


def model_of(name: str, device: str, dtype: str = "float32") -> BridgedModel:
    return built(SHAPES[name], build_tokenizer(LIMIT), name="shape", device=device, dtype=dtype)


def pairs(n: int) -> ac.Pairs:
    prompts = ac.legal_prompts(ac.operator("+"), ac.OperandRange(0, 20), LIMIT)
    return ac.Pairs(prompts[1 : 20 * n : 20], prompts[7 : 20 * n + 6 : 20])


def localized(name: str, device: str, n: int = PROMPTS) -> Cost:
    """Of every head, and of the MLPs that can differ at `=`: the first one of a parallel model cannot."""
    model = model_of(name, device)
    encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    components = (*all_heads(3, 4), *all_mlps(3)[1:])
    with counting() as count:
        ac.localize(model, encoder, [pairs(n)], components=components, batch_size=1000)
    return count.cost


def test_a_matrix_product_in_closed_form() -> None:
    a, b = torch.ones(3, 5, dtype=torch.bfloat16), torch.ones(5, 7, dtype=torch.bfloat16)
    with counting() as count:
        a @ b
    assert count.cost == Cost({Kernel("mm", 2 * 3 * 5 * 7, 2 * (3 * 5 + 5 * 7 + 3 * 7)): 1})


@pytest.mark.parametrize(
    ("run", "moved", "launches"),
    [
        (lambda x: x.view(4, 25)[1:].T, 0, 0),
        (lambda x: torch.empty(4, 4), 0, 0),
        (lambda x: x + x[:1].expand(10, 10), 4 * (100 + 10 + 100), 1),
        (lambda x: x[ROWS], 2 * 4 * 20 + 8 * 2, 1),
        (lambda x: x[:2].copy_(x[2:4]), 2 * 4 * 20, 1),
        (lambda x: x.add_(1), 2 * 4 * 100, 1),
        (lambda x: x.index_put_((ROWS,), TWO), 2 * 4 * 20 + 8 * 2, 1),
        (lambda x: x.sum(), 4 * 101, 1),
    ],
)
def test_bytes_in_closed_form(run, moved: int, launches: int) -> None:
    x = torch.ones(10, 10)
    with counting() as count:
        run(x)
    assert (count.cost.bytes, count.cost.launches) == (moved, launches)


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_without_values_costs_what_the_model_costs(name: str) -> None:
    real, meta = localized(name, "cpu"), localized(name, "meta")
    assert meta.flops == real.flops > 0
    assert meta.bytes == pytest.approx(real.bytes, rel=0.02)  # the real one also looks which patches change anything
    assert meta.launches == pytest.approx(real.launches, rel=0.1)


def test_flops_are_those_of_torchs_counter() -> None:
    model = model_of("neox", "cpu")
    encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    with FlopCounterMode(display=False) as theirs, counting() as ours:
        ac.localize(model, encoder, [pairs(PROMPTS)])
    assert ours.cost.flops == theirs.get_total_flops()


def test_flops_grow_with_prompts_in_proportion() -> None:
    small, middle, large = (localized("llama", "meta", n * PROMPTS).flops for n in (1, 2, 3))
    assert large - middle == middle - small
    assert 0 < small - (middle - small) < 0.1 * small, "what does not grow: the positions' arguments, asked for once"


def test_maps_run_without_values() -> None:
    costs = []
    for device in ("cpu", "meta"):
        model = model_of("neox", device)
        encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
        prompts = ac.legal_prompts(ac.operator("+"), ac.OperandRange(0, 20), LIMIT)
        with counting() as count:
            maps = activation_maps(model, encoder, prompts, [ac.Neuron(1, 3), ac.Neuron(2, 0)], batch_size=100)
        assert maps.k.shape == (2, 441)
        costs.append(count.cost)
    assert costs[0].flops == costs[1].flops > 0


def test_costs_add_up_and_repeat() -> None:
    one, other = Cost({Kernel("mm", 10, 4): 2}), Cost({Kernel("mm", 10, 4): 1, Kernel("add", 0, 7): 5})
    both = one + other
    assert both.kernels == {Kernel("mm", 10, 4): 3, Kernel("add", 0, 7): 5}
    assert (both.flops, both.bytes, both.launches) == (30, 47, 8)
    assert both.times(3) == both + both + both
    assert both.times(0) == Cost()


def test_seconds_are_the_roofline_of_every_kernel() -> None:
    cost = Cost({Kernel("mm", 1000, 10): 2, Kernel("mm", 100, 50): 1, Kernel("add", 0, 30): 1})
    assert cost.bound_by(MACHINE) == {"arithmetic": 20.0, "memory": 5.0 + 3.0, "launches": 4.0}
    assert cost.seconds(MACHINE) == 32.0
    assert cost.by_name(MACHINE) == {"mm": 25.0, "add": 3.0}
    assert cost.seconds(MACHINE.at(0.5)) == 2 * 28.0 + 4.0
    assert H200.at(0.5).flops == pytest.approx(494.5e12)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_shares_outside_0_to_1_are_refused(share: float) -> None:
    with pytest.raises(RequestError, match="above 0 and at most 1"):
        H200.at(share)
