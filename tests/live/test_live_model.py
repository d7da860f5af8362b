"""A live model: what it answers is what hooked forwards say, whatever is switched off, whoever asks at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple

import numpy as np
import pytest
import torch
import toys
from torch import Tensor

from arithcirc.arithmetic.operators import ADD, OperandRange, fitting_prompts
from arithcirc.arithmetic.reading import read_prompt
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.components import Head, Neuron
from arithcirc.errors import PromptError, RequestError
from arithcirc.live import model as live_model
from arithcirc.live.model import LiveHooked
from arithcirc.measure.answers import predictions
from arithcirc.measure.maps import activation_maps, value_logits
from arithcirc.measure.means import Means
from arithcirc.models.bridge import BridgedModel
from arithcirc.questions import LiveModel, Off

OPERANDS = OperandRange(0, 12)
PROMPT = "12+18="
NEURONS = (Neuron(0, 5), Neuron(2, 7), Neuron(2, 90))
HEADS = (Head(1, 1), Head(2, 3))
LAYERS = range(toys.LAYERS)


@pytest.fixture(scope="module")
def means() -> Means:
    """Means of another size than activations have, so that a wrong row would show."""
    draw = torch.Generator().manual_seed(3)
    head = toys.WIDTH // toys.HEADS
    z = [torch.randn(5, toys.HEADS, head, generator=draw) for _ in LAYERS]
    return Means(z, [torch.randn(5, toys.HIDDEN, generator=draw) for _ in LAYERS], 1)


@pytest.fixture(scope="module")
def live(toy_model: BridgedModel, means: Means) -> LiveHooked:
    encoder = prompt_encoder(toy_model.tokenizer, vocab_size=toy_model.info.d_vocab)
    return LiveHooked(toy_model, encoder, OPERANDS, means=means)


def tokens(live: LiveHooked, text: str) -> Tensor:
    return torch.from_numpy(live.encoder.encode(read_prompt(text, OperandRange(0, toys.LIMIT))))


def edited(live: LiveHooked, text: str, off: Off, means: Means | None) -> Tensor:
    """Probabilities of a whole forward with the parts overwritten one by one at the last position."""

    def edit(part: str, layer: int, activation: Tensor) -> Tensor:
        activation = activation.clone()
        for c in off.neurons if part == "post" else off.heads:
            if c.layer == layer:
                side = None if means is None else (means.post if part == "post" else means.z)[layer][-1, c.index]
                activation[0, -1, c.index] = 0 if side is None else side
        return activation

    return live.model.logits(tokens(live, text), edit=edit)[0].double().softmax(-1)


@pytest.mark.parametrize(
    "off",
    [
        Off(), Off(neurons=NEURONS), Off(heads=HEADS), Off(NEURONS, HEADS), Off(NEURONS, HEADS, "mean"),
        Off(tuple(Neuron(layer, i) for layer in LAYERS for i in range(toys.HIDDEN)), (), "mean"),
    ],
    ids=["nothing", "neurons", "heads", "both", "means", "all neurons"],
)  # fmt: skip
def test_answers_are_those_of_an_edited_forward(live: LiveHooked, means: Means, off: Off) -> None:
    expected = edited(live, PROMPT, off, means if off.ablation == "mean" else None)
    reply, explained = live.answer(PROMPT, off), live.explain(PROMPT, off)
    top = expected.topk(10)
    for guesses in (reply.guesses, explained.reply.guesses):
        assert [g.probability for g in guesses] == pytest.approx(top.values.tolist(), rel=1e-4)
        assert [g.token for g in guesses] == live.model.tokenizer.convert_ids_to_tokens(top.indices.tolist())
    answer = int(live.encoder.answers(np.array([30]))[0])
    assert reply.answer_guess.probability == pytest.approx(float(expected[answer]), rel=1e-4)
    assert (reply.answer_guess.number, reply.answer) == (30, 30)
    zeroed = [explained.activations[n.layer, n.index] for n in off.neurons]
    wanted = [0.0 if off.ablation == "zero" else float(means.post[n.layer][-1, n.index]) for n in off.neurons]
    assert zeroed == pytest.approx(wanted)


def test_a_reply_says_how_the_prompt_is_read(live: LiveHooked) -> None:
    reply = live.answer(" 12 × 3")
    assert (reply.prompt, reply.operator, reply.op1, reply.op2, reply.answer) == ("12*3=", "*", 12, 3, 36)
    positions, texts = zip(*reply.tokens, strict=True)
    assert positions == ("bos", "op1", "operator", "op2", "equals")
    assert texts[1:] == ("12", "*", "3", "=")
    assert live.answer("18−5").operator == "-"
    assert live.answer("18÷5=").answer == 3
    assert live.answer("60/2=").answer == 30, "beyond the run's operands, within the tokenizer's"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("12+", "not understood"),
        ("abc", "not understood"),
        ("", "not understood"),
        ("12+3=15", "not understood"),
        ("9" * 4000, "not understood"),
        ("9999-1=", r"9999 in '9999-1=' is outside the operands 0\.\.60"),
        ("61-61", r"outside the operands 0\.\.60"),
        ("3-12", r"has the result -9: legal prompts have a whole result in 0\.\.60"),
        ("60*60=", "has the result 3600"),
        ("7/0=", "is divided by 0"),
        ("7%2=", r"unknown operator '%': use one of \+ - \* /"),
        ("7<script>2", "unknown operator '<script>'"),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_refused_in_one_line(live: LiveHooked, text: str, says: str) -> None:
    for ask in (live.answer, live.explain):
        with pytest.raises(PromptError, match=says) as caught:
            ask(text)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda x: x.answer(PROMPT, Off((Neuron(3, 0),))), r"no neuron L3N0: layers are 0\.\.2, neurons 0\.\.95"),
        (lambda x: x.answer(PROMPT, Off((), (Head(0, 4),))), r"no head L0H4: layers are 0\.\.2, heads 0\.\.3"),
        (lambda x: x.answer(PROMPT, Off((Neuron(0, -1),))), "no neuron L0N-1"),
        (lambda x: x.explain(PROMPT, numbers=[61]), r"answer 61 is not a single token: allowed are 0\.\.60"),
        (lambda x: x.neuron_map("+", Neuron(0, 96)), "no neuron L0N96"),
        (lambda x: x.neuron_map("^", Neuron(0, 1)), r"unknown operator '\^'"),
        (lambda x: x.knock_out("+", [Neuron(9, 9)]), "no neuron L9N9"),
        (lambda x: x.knock_out("+", [], n=0), "0 prompts are too few"),
    ],
    ids=["layer", "head", "negative", "number", "map", "operator", "knockout", "no prompts"],
)
def test_what_the_model_does_not_have_is_refused(
    live: LiveHooked, ask: Callable[[LiveModel], object], says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        ask(live)


def test_an_unknown_ablation_is_refused(live: LiveHooked) -> None:
    off = Off(NEURONS)
    object.__setattr__(off, "ablation", "shuffle")  # as an address might say
    with pytest.raises(RequestError, match="'shuffle' is not known: use zero or mean"):
        live.answer(PROMPT, off)


def test_without_means_only_zero_is_possible(live: LiveHooked) -> None:
    bare = LiveHooked(live.model, live.encoder, OPERANDS)
    assert bare.answer(PROMPT, Off(NEURONS)).guesses
    for ask in (lambda: bare.answer(PROMPT, Off(NEURONS, (), "mean")), lambda: bare.knock_out("+", NEURONS, "mean")):
        with pytest.raises(RequestError, match=r"'mean' needs the run's means\.safetensors"):
            ask()


def test_numbers_are_explained_in_order_and_once(live: LiveHooked) -> None:
    given = live.answer(PROMPT).guesses[0].number
    shown = live.explain(PROMPT, numbers=[7, 30, 7]).numbers
    assert shown == tuple(dict.fromkeys([30, *([] if given is None else [given]), 7]))


def test_a_map_is_the_activation_on_every_legal_prompt(live: LiveHooked) -> None:
    prompts = fitting_prompts(ADD, OPERANDS, toys.LIMIT)
    for neuron in NEURONS:
        found = live.neuron_map("+", neuron)
        k = activation_maps(live.model, live.encoder, prompts, [neuron], batch_size=50).k[0]
        np.testing.assert_allclose(found.k[prompts.op1, prompts.op2], k, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.answer[prompts.op1, prompts.op2], prompts.answer)
        np.testing.assert_allclose(found.value, value_logits(live.model, live.encoder, [neuron])[0], rtol=1e-6)
        activation = live.explain("5+9=").activations[neuron.layer, neuron.index]
        assert found.k[5, 9] == pytest.approx(activation, rel=1e-4, abs=1e-5)


def test_neighbours_come_without_another_pass(live: LiveHooked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Neuron(1, 19), Neuron(1, 10), Neuron(1, 20), Neuron(1, 95)]
    expected = [live.neuron_map("+", neuron).k for neuron in asked]
    alone, passes = LiveHooked(live.model, live.encoder, OPERANDS), list[tuple[int, int]]()

    def counted(model: object, encoder: object, prompts: object, neurons: list[Neuron], **options: object) -> object:
        passes.append((neurons[0].index, neurons[-1].index))
        return activation_maps(model, encoder, prompts, neurons, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(live_model, "activation_maps", counted)
    monkeypatch.setattr(live_model, "MAP_BYTES", 4 * 10 * len(fitting_prompts(ADD, OPERANDS, toys.LIMIT)))
    for neuron, k in zip(asked, expected, strict=True):
        np.testing.assert_allclose(alone.neuron_map("+", neuron).k, k, rtol=1e-5, atol=1e-6)
    assert passes == [(10, 19), (20, 29), (90, 95)]
    assert np.isnan(alone.neuron_map("-", Neuron(1, 95)).k[0, 1]), "maps of another operator are not taken for these"


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_knockout_is_every_prompt_answered_again(live: LiveHooked, ablation: str) -> None:
    off = Off(NEURONS, (), ablation)  # type: ignore[arg-type]
    found = live.knock_out("+", [*NEURONS, NEURONS[0]], off.ablation, n=3)
    assert 1 <= len(found.answer) <= 3
    for op1, op2, answer, after, drop, lead, fall in zip(*astuple(found)[1:], strict=True):
        before, now = live.answer(f"{op1}+{op2}"), live.answer(f"{op1}+{op2}", off)
        assert before.correct
        assert before.answer == answer
        assert after == (-1 if now.guesses[0].number is None else now.guesses[0].number)
        expected = np.log(before.answer_guess.probability) - np.log(now.answer_guess.probability)
        assert drop == pytest.approx(expected, abs=1e-4)
        assert lead == pytest.approx(before.guesses[0].logit - before.guesses[1].logit, abs=1e-4)
        others = max(g.logit for g in now.guesses if g.number != answer)
        assert lead - fall == pytest.approx(now.answer_guess.logit - others, abs=1e-4)
    same = live.knock_out("+", [], "zero", n=3)
    np.testing.assert_array_equal(same.op1, found.op1)
    assert (same.after == same.answer).all()
    assert np.abs(same.drop).max() == np.abs(same.fall).max() == 0


def test_all_correct_prompts_are_found_where_few_are(live: LiveHooked) -> None:
    prompts = fitting_prompts(ADD, OPERANDS, toys.LIMIT)
    said = predictions(live.model, live.encoder, prompts, batch_size=500)
    correct = prompts[said == live.encoder.answers(prompts.answer)]
    found = live.knock_out("+", NEURONS, n=100)
    assert sorted(zip(found.op1, found.op2, strict=True)) == sorted(zip(correct.op1, correct.op2, strict=True))


def test_questions_asked_at_once_do_not_mix(live: LiveHooked) -> None:
    asked = [(f"{i}+{i}=", Off(NEURONS[: i % 4], HEADS[: i % 3])) for i in range(20)]
    one_by_one = [live.answer(*question) for question in asked]
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda question: live.answer(*question), asked)) == one_by_one


def test_the_model_is_left_as_found(live: LiveHooked) -> None:
    network = live.model.bridge.original_model  # type: ignore[attr-defined]

    def state() -> list[object]:
        modules = list(live.model.bridge.modules())  # type: ignore[attr-defined]
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in modules]
        return [*hooks, *(float(p.double().sum()) for p in network.parameters())]

    before = state()
    live.explain(PROMPT, Off(NEURONS, HEADS, "mean"))
    live.knock_out("-", NEURONS, n=2)
    live.neuron_map("/", NEURONS[0])
    with pytest.raises(RequestError):
        live.answer(PROMPT, Off((Neuron(7, 7),)))
    assert state() == before


def test_it_is_what_the_pages_ask(live: LiveHooked) -> None:
    assert isinstance(live, LiveModel)
    assert (live.info.n_layers, live.info.n_heads, live.info.d_mlp, live.info.limit) == (3, 4, 96, 60)
