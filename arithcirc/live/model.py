"""A loaded model behind `questions.LiveModel`: one prompt at a time, with parts at `=` switched off.

A question is one forward of one prompt (a knockout: of some hundreds), with hooks that are gone when it is answered, so
the model is left as found. Hooks belong to the model, not to a thread: a lock lets one question in at a time.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arithcirc.arithmetic.operators import OPERATORS, OperandRange, Operator, Prompts, fitting_prompts
from arithcirc.arithmetic.operators import operator as operator_of
from arithcirc.arithmetic.reading import read_prompt
from arithcirc.arithmetic.spans import spelled
from arithcirc.arithmetic.tokens import PromptEncoder
from arithcirc.components import Neuron, Position
from arithcirc.errors import RequestError
from arithcirc.live.contributions import PARTS, FinalNorm, contributions, final_norm, readout, tokens_of
from arithcirc.measure.answers import predictions
from arithcirc.measure.knockout import Knockouts, NeuronSets, Values, knock_out, mean_values, zero_values
from arithcirc.measure.maps import Maps, activation_maps, value_logits
from arithcirc.measure.means import Means
from arithcirc.measure.metrics import verdicts
from arithcirc.models.protocol import CleanRun, Edit, HookedModel
from arithcirc.neuron_maps import NeuronMap, on_plane
from arithcirc.questions import ABLATIONS, NOTHING, Ablation, Explanation, Guess, Knockout, LiveInfo, Off, Reply

N_GUESSES = 10
MOST_TRIED = 25
"""Prompts tried to find one that is answered correctly: a weak model gets fewer of them than were asked for."""
MAP_BYTES = 2**28
"""Activation maps held: those of a neuron's neighbours cost little beside its own, and are asked for next."""
_SEED = 0
_TEXT = "text"


@dataclass(frozen=True)
class _Asked:
    """One prompt that was run: its clean or edited run, and its logits before a soft-cap."""

    prompt: Prompts
    run: CleanRun
    norm: FinalNorm


class LiveHooked:
    """`questions.LiveModel` over a hooked model; `operands` are the run's, over which activation maps are made.

    `means` are the run's mean activations; without them ablation "mean" is refused.
    """

    def __init__(
        self, model: HookedModel, encoder: PromptEncoder, operands: OperandRange, *, means: Means | None = None
    ) -> None:
        self.model, self.encoder, self.operands, self.means = model, encoder, operands, means
        self._lock = threading.RLock()
        self._readout: Float[Tensor, "d_model number"] | None = None
        self._correct: dict[tuple[str, int], Prompts] = {}
        self._maps: Maps | None = None

    @property
    def info(self) -> LiveInfo:
        """Facts about the model."""
        info = self.model.info
        sizes = (info.n_layers, info.n_heads, info.d_mlp, self.encoder.limit)
        return LiveInfo(info.name, info.revision, *sizes, "".join(o.symbol for o in OPERATORS))

    # -- one prompt -------------------------------------------------------------------------------------------------

    def answer(self, prompt: str, off: Off = NOTHING) -> Reply:
        """What the model says to `226-68=`, with parts switched off. Raises PromptError for a prompt it cannot read."""
        with self._asking():
            return self._reply(self._run(prompt, off, parts=()))

    def explain(self, prompt: str, off: Off = NOTHING, *, numbers: Sequence[int] = ()) -> Explanation:
        """Contributions to the logits of the true answer, of the answer given, and of `numbers`, in this order.

        A number that comes twice is explained once, and an answer given that is no number not at all.
        """
        with self._asking():
            asked = self._run(prompt, off, parts=PARTS)
            reply = self._reply(asked)
            given = reply.guesses[0].number
            shown = tuple(dict.fromkeys([reply.answer, *([] if given is None else [given]), *numbers]))
            tokens = tokens_of(self.encoder.answers(np.array(shown, dtype=np.int64)).tolist(), self.model)
            read = self._read_numbers()[:, list(shown)]
            found = contributions(self.model, asked.run, asked.norm, tokens, read)
            layers, acts = range(self.model.info.n_layers), asked.run.activations
            return Explanation(
                reply=reply,
                numbers=shown,
                **{name: _array(part) for name, part in vars(found).items()},
                activations=_array(torch.stack([acts.post[i][0, -1] for i in layers])),
                attention=_array(torch.stack([acts.pattern[i][0, :, -1] for i in layers])),
            )

    def _run(self, text: str, off: Off, *, parts: Sequence[str]) -> _Asked:
        prompt = read_prompt(text, OperandRange(0, self.encoder.limit), self.encoder.limit)
        tokens = torch.from_numpy(self.encoder.encode(prompt)).to(self.model.device)
        if off:
            with self.model.editing(self._edit(off)):
                run = self.model.record(tokens, parts=parts)
        else:
            run = self.model.record(tokens, parts=parts)
        return _Asked(prompt, run, final_norm(self.model, run.resid[-1][0, -1]))

    def _edit(self, off: Off) -> Edit:
        """An edit that sets the switched-off parts at the last position."""
        self._check(off.neurons, off.ablation)
        info = self.model.info
        if strangers := [h for h in off.heads if not (0 <= h.layer < info.n_layers and 0 <= h.index < info.n_heads)]:
            raise RequestError(
                f"no head {strangers[0]}: layers are 0..{info.n_layers - 1}, heads 0..{info.n_heads - 1}"
            )
        means = self.means if off.ablation == "mean" else None
        chosen: dict[str, dict[int, list[int]]] = {"post": {}, "z": {}}
        for part, components in (("post", off.neurons), ("z", off.heads)):
            for c in components:
                chosen[part].setdefault(c.layer, []).append(c.index)

        def edit(part: str, layer: int, activation: Tensor) -> Tensor | None:
            if (ids := chosen[part].get(layer)) is None:
                return None
            edited = activation.clone()
            mean = None if means is None else (means.post if part == "post" else means.z)[layer][-1][ids]
            edited[:, -1, ids] = 0 if mean is None else mean.to(edited.device, edited.dtype)
            return edited

        return edit

    def _reply(self, asked: _Asked) -> Reply:
        logits = asked.run.logits[0]
        probability = logits.double().softmax(-1)
        prompt, answer = asked.prompt, int(asked.prompt.answer[0])
        likeliest = logits.topk(min(N_GUESSES, len(logits))).indices.tolist()

        def guess(token: int) -> Guess:
            number = int(self.encoder.numbers(np.array([token]))[0])
            text = str(self.model.tokenizer.decode([token]))
            return Guess(
                text, None if number < 0 else number, float(probability[token]), float(asked.norm.logits[token])
            )

        return Reply(
            prompt=prompt.texts()[0],
            operator=str(prompt.symbols[0]),
            op1=int(prompt.op1[0]),
            op2=int(prompt.op2[0]),
            answer=answer,
            tokens=self._tokens(asked.run.tokens[0].tolist()),
            guesses=tuple(guess(token) for token in likeliest),
            answer_guess=guess(int(self.encoder.answers(prompt.answer)[0])),
            chances=_array(probability[torch.from_numpy(self.encoder.answer_ids).to(probability.device)]),
        )

    def _tokens(self, ids: Sequence[int]) -> tuple[tuple[str, str], ...]:
        """(position, text) of every token; text of a template or a prefix has the position "text"."""
        named = {self.encoder.index(position): position.value for position in Position}
        return tuple((named.get(i, _TEXT), text) for i, text in enumerate(spelled(self.model.tokenizer, ids)))

    def _read_numbers(self) -> Float[Tensor, "d_model number"]:
        """The readout of all numbers, made once."""
        if self._readout is None:
            self._readout = readout(self.model, tokens_of(self.encoder.answer_ids.tolist(), self.model))
        return self._readout

    # -- many prompts -----------------------------------------------------------------------------------------------

    def neuron_map(self, operator: str, neuron: Neuron) -> NeuronMap:
        """The neuron's activation on every legal prompt of an operator; its neighbours' follow at once."""
        self._check([neuron], "zero")
        op = operator_of(operator)
        prompts = fitting_prompts(op, self.operands, self.encoder.limit)
        if not len(prompts):
            raise RequestError(
                f"no prompt of {op} with operands {self.operands} has a result in 0..{self.encoder.limit}: "
                "choose another operator"
            )
        with self._asking():
            maps = self._maps_with(neuron, op, prompts)
            value = value_logits(self.model, self.encoder, [neuron])[0]
        columns = np.stack([prompts.op1, prompts.op2, prompts.answer], axis=1)
        line = maps.k[maps.neurons.index(neuron)]
        k, answer = on_plane(columns, line, self.operands.low, len(self.operands))
        return NeuronMap(op.symbol, neuron, self.operands.low, k, answer, value)

    def _maps_with(self, neuron: Neuron, op: Operator, prompts: Prompts) -> Maps:
        """Maps of the neuron and of its neighbours in the layer, as many as are held; the last ones are kept."""
        held = self._maps
        if held is None or held.prompts.symbols[0] != op.symbol or neuron not in held.neurons:
            self._maps = None  # gone before the next ones come
            width = max(1, MAP_BYTES // (4 * len(prompts)))
            first = neuron.index // width * width
            near = [Neuron(neuron.layer, i) for i in range(first, min(first + width, self.model.info.d_mlp))]
            unread = np.zeros(len(prompts), dtype=np.int64)  # answers are not asked for
            held = activation_maps(self.model, self.encoder, prompts, near, batch_size=2048, given=unread)
            self._maps = held
        return held

    def knock_out(
        self, operator: str, neurons: Sequence[Neuron], ablation: Ablation = "zero", *, n: int = 200
    ) -> Knockout:
        """Replace these neurons on the first n prompts, in a fixed random order, that are answered correctly.

        At most MOST_TRIED x n prompts are tried, so a weak model has fewer.
        """
        self._check(neurons, ablation)
        if n < 1:
            raise RequestError(f"{n} prompts are too few to knock neurons out on: give 1 or more, 200 is usual")
        with self._asking():
            prompts = self._answered(operator_of(operator), n)
            found = self._replaced(prompts, neurons, ablation)
        (log_p, lead, said) = found.reshape(2, len(prompts), 3).transpose(2, 0, 1)
        numbers = self.encoder.numbers(said[1].astype(np.int64))
        falls = log_p[0] - log_p[1], lead[0], lead[0] - lead[1]
        return Knockout(operator_of(operator).symbol, prompts.op1, prompts.op2, prompts.answer, numbers, *falls)

    def _answered(self, op: Operator, n: int) -> Prompts:
        """The first n prompts in a fixed random order that are answered correctly; found once."""
        key = (op.symbol, n)
        if key not in self._correct:
            legal = fitting_prompts(op, self.operands, self.encoder.limit)
            order = np.random.default_rng([_SEED, ord(op.symbol)]).permutation(len(legal))[: MOST_TRIED * n]
            kept: list[int] = []
            for start in range(0, len(order), max(n, 1)):
                part = order[start : start + n]
                said = predictions(self.model, self.encoder, legal[part], batch_size=2048)
                kept += part[said == self.encoder.answers(legal.answer[part])].tolist()
                if len(kept) >= n:
                    break
            self._correct[key] = legal[np.array(kept[:n], dtype=np.int64)]
        return self._correct[key]

    def _replaced(self, prompts: Prompts, neurons: Sequence[Neuron], ablation: Ablation) -> Float[np.ndarray, "row 3"]:
        """(log probability and lead of the answer, token said): rows with nothing replaced, then with these neurons."""
        n = len(prompts)
        members = np.array(sorted({(m.layer, m.index) for m in neurons}), dtype=np.int64).reshape(-1, 2)
        sets = NeuronSets.of([np.empty((0, 2), dtype=np.int64), members])
        rows = Knockouts(np.tile(np.arange(n), 2), np.repeat([0, 1], n), np.zeros(2 * n, dtype=np.int64))
        answer = torch.from_numpy(np.tile(self.encoder.answers(prompts.answer), 2))

        def read(logits: Float[Tensor, "row vocab"], at: Int[np.ndarray, "row"]) -> Float[Tensor, "row metric"]:
            return verdicts(logits, answer[torch.from_numpy(at)].to(logits.device))

        tokens = torch.from_numpy(self.encoder.encode(prompts)).to(self.model.device)
        found: np.ndarray = knock_out(self.model, tokens, sets, rows, self._values(ablation), read).numpy()
        return found

    # -- checks -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """One question at a time, without gradients."""
        with self._lock, torch.no_grad():
            yield

    def _values(self, ablation: Ablation) -> Values:
        if ablation == "mean" and self.means is not None:
            return mean_values(self.model, self.means)
        return zero_values(self.model)

    def _check(self, neurons: Sequence[Neuron], ablation: str) -> None:
        """Refuse neurons that the model does not have, and an ablation that cannot be done."""
        info = self.model.info
        if strangers := [n for n in neurons if not (0 <= n.layer < info.n_layers and 0 <= n.index < info.d_mlp)]:
            raise RequestError(
                f"no neuron {strangers[0]}: layers are 0..{info.n_layers - 1}, neurons 0..{info.d_mlp - 1}"
            )
        if ablation not in ABLATIONS:
            raise RequestError(f"ablation {ablation!r} is not known: use {' or '.join(ABLATIONS)}")
        if ablation == "mean" and self.means is None:
            raise RequestError(
                "ablation 'mean' needs the run's means.safetensors, which is not there: run 'arithcirc analyze' again, "
                "or set to zero instead"
            )


def _array(part: Tensor) -> np.ndarray:
    found: np.ndarray = part.float().cpu().numpy()
    return found
