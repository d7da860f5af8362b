"""One run: its model, configuration, folder and random streams, shared by every stage."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import OperandRange, Operator, parse_operators
from arithcirc.arithmetic.pairs import Pairs, read_pairs
from arithcirc.arithmetic.seen import seen_table
from arithcirc.arithmetic.tokens import PromptEncoder, prompt_encoder
from arithcirc.circuits.circuit import parse_mlps
from arithcirc.components import Neuron
from arithcirc.config import (
    CircuitConfig,
    HeuristicConfig,
    KnockoutConfig,
    MapsConfig,
    ModelConfig,
    NeuronConfig,
    ProbeConfig,
    PromptConfig,
    RunConfig,
)
from arithcirc.errors import PromptError, RequestError
from arithcirc.heuristics.presets import check_preset
from arithcirc.measure.means import Means
from arithcirc.measure.metrics import METRICS
from arithcirc.models.protocol import HookedModel
from arithcirc.store import RunFolder, sha256_file

Report = Callable[[str, int, int], None]
"""`report(stage, done, total)`: rows of work done so far."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass
class Job:
    """Everything a stage needs. `pairs` replaces sampling, `neurons` the ranked neurons, when they are given.

    `means` holds mean activations that were computed before with this model, by what they depend on; jobs may share it.
    """

    model: HookedModel
    encoder: PromptEncoder
    config: RunConfig
    run: RunFolder
    batch_size: int
    pairs: Pairs | None = None
    pair_sets: np.ndarray | None = None
    neurons: tuple[Neuron, ...] | None = None
    report: Report = silent
    means: dict[str, Means] = field(default_factory=dict)

    @property
    def operators(self) -> tuple[Operator, ...]:
        """Operators asked for."""
        return parse_operators(self.config.prompts.operators)

    @property
    def operands(self) -> OperandRange:
        """Operand range asked for."""
        return OperandRange.parse(self.config.prompts.operands)

    def rng(self, purpose: str, *more: str | int) -> np.random.Generator:
        """A random stream of its own for each purpose, so that stages do not disturb each other."""
        words = [purpose, *map(str, more)]
        digest = hashlib.sha256("/".join(words).encode()).digest()
        return np.random.default_rng([self.config.prompts.seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])

    def counter(self, stage: str, total: int) -> Callable[[int], None]:
        """A progress function for one stage: called with rows done, it reports the running total."""
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            self.report(stage, min(done, total), total)

        self.report(stage, 0, total)
        return advance


def fit_operands(prompts: PromptConfig, limit: int) -> PromptConfig:
    """The configuration with its operators spelled in one way and its range checked against the limit."""
    operators = parse_operators(prompts.operators)
    operands = OperandRange.parse(prompts.operands)
    if operands.high > limit:
        raise PromptError(
            f"operands {operands} exceed {limit}, the largest number this model's tokenizer writes as one token: "
            f"use --operands {min(operands.low, limit)}..{limit} or less"
        )
    return replace(prompts, operators="".join(o.symbol for o in operators), operands=str(operands))


def _check_tokens(encoder: PromptEncoder, pairs: Pairs) -> None:
    """Raise PromptError for a given pair whose numbers are not single tokens."""
    for side in (pairs.clean, pairs.counterfactual):
        encoder.encode(side)
        encoder.answers(side.answer)


def _whole(text: str) -> int:
    """ "3" or "3.0" -> 3. Raises ValueError."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def read_neurons(path: Path, *, n_layers: int, d_mlp: int) -> tuple[Neuron, ...]:
    """Neurons from a CSV file with the columns `layer` and `neuron`. Raises RequestError naming the row at fault."""
    if not path.is_file():
        raise RequestError(f"neurons file {path} does not exist")
    try:
        table = pd.read_csv(path, dtype=str)
    except (ValueError, OSError) as error:
        raise RequestError(f"neurons file {path.name} cannot be read: {error}") from None
    if missing := {"layer", "neuron"} - set(table.columns):
        raise RequestError(f"{path.name} lacks the column(s) {', '.join(sorted(missing))}: it needs layer, neuron")
    found: dict[Neuron, None] = {}
    for row, (layer, neuron) in enumerate(table[["layer", "neuron"]].fillna("").itertuples(index=False), start=1):
        try:
            named = Neuron(_whole(layer), _whole(neuron))
        except ValueError:
            raise RequestError(f"{path.name} row {row}: {layer}, {neuron} are not whole numbers") from None
        if not (0 <= named.layer < n_layers and 0 <= named.index < d_mlp):
            raise RequestError(
                f"{path.name} row {row}: no neuron {named}: layers are 0..{n_layers - 1}, neurons 0..{d_mlp - 1}"
            )
        found[named] = None
    if not found:
        raise RequestError(f"{path.name} names no neuron: give rows of layer, neuron")
    return tuple(found)


def _given_neurons(
    file: Path | None, neurons: Sequence[Neuron] | None, *, n_layers: int, d_mlp: int
) -> tuple[tuple[Neuron, ...], str] | None:
    """The neurons of a file, or those given themselves, and what names them: a sha256 of the file or of their list."""
    if file is not None:
        return read_neurons(file, n_layers=n_layers, d_mlp=d_mlp), sha256_file(file)
    if neurons is None:
        return None
    if strangers := [n for n in neurons if not (0 <= n.layer < n_layers and 0 <= n.index < d_mlp)]:
        raise RequestError(f"no neuron {strangers[0]}: layers are 0..{n_layers - 1}, neurons 0..{d_mlp - 1}")
    distinct = tuple(sorted(set(neurons)))
    return distinct, hashlib.sha256(" ".join(map(str, distinct)).encode()).hexdigest()


def _check_choices(
    n_layers: int, circuit: CircuitConfig | None, neurons: NeuronConfig | None, heuristics: HeuristicConfig | None
) -> None:
    """Refuse before any work what a later stage could not do with this model. Raises RequestError."""
    if circuit is not None:
        parse_mlps(circuit.mlps, n_layers)
        if circuit.rank_by not in METRICS:
            raise RequestError(f"--rank-by {circuit.rank_by!r} is not an effect: use one of {', '.join(METRICS)}")
    if neurons is not None and neurons.first_layer is not None and neurons.first_layer >= n_layers:
        raise RequestError(f"--first-layer {neurons.first_layer} is not in the model: it has layers 0..{n_layers - 1}")
    if heuristics is not None:
        check_preset(heuristics.preset)


def open_job(
    model: HookedModel,
    out: Path,
    *,
    prompts: PromptConfig,
    circuit: CircuitConfig | None = None,
    probe: ProbeConfig | None = None,
    neurons: NeuronConfig | None = None,
    heuristics: HeuristicConfig | None = None,
    knockout: KnockoutConfig | None = None,
    maps: MapsConfig | None = None,
    pairs_file: Path | None = None,
    neurons_file: Path | None = None,
    given_neurons: Sequence[Neuron] | None = None,
    folder: Path | None = None,
    batch_size: int = 2048,
    sections: Sequence[str] = ("model", "prompts", "circuit"),
    facts: dict[str, Any] | None = None,
    report: Report = silent,
    write: bool = True,
) -> Job:
    """Check a request against the model and open its run folder, `folder` or `<out>/<model>/<revision>`.

    With `write` False the folder is neither made nor changed: enough to plan, not to run.
    """
    fmt = PromptFormat(prompts.prefix, prompts.template)
    info = model.info
    encoder = prompt_encoder(model.tokenizer, format=fmt, vocab_size=info.d_vocab, name=info.name)
    prompts = fit_operands(prompts, encoder.limit)
    pairs, sets = None, None
    if pairs_file is not None:
        pairs, sets = read_pairs(pairs_file, format=fmt)
        symbols = "".join(dict.fromkeys(pairs.clean.symbols.tolist()))
        _check_tokens(encoder, pairs)
        prompts = replace(prompts, pairs=sha256_file(pairs_file), operators=symbols)
    given = _given_neurons(neurons_file, given_neurons, n_layers=info.n_layers, d_mlp=info.d_mlp)
    if given is not None:
        heuristics = replace(heuristics or HeuristicConfig(), neurons=given[1])
    _check_choices(info.n_layers, circuit, neurons, heuristics)
    named = ModelConfig(info.name, info.revision, info.weights_sha256, info.tokenizer_sha256, info.dtype)
    config = RunConfig(
        named,
        prompts,
        circuit or CircuitConfig(),
        probe or ProbeConfig(),
        neurons or NeuronConfig(),
        heuristics or HeuristicConfig(),
        knockout or KnockoutConfig(),
        maps or MapsConfig(),
    )
    seen = {"model": asdict(info), **_seen(encoder), "batch_size": batch_size}
    path = folder or out / info.name.replace("/", "--") / info.revision
    run = RunFolder.create(path, config, sections=sections, facts=seen | (facts or {}), write=write)
    return Job(model, encoder, config, run, batch_size, pairs, sets, given and given[0], report)


def _seen(encoder: PromptEncoder) -> dict[str, Any]:
    """What the tokenizer turned out to do, for the manifest."""
    return {
        "bos_id": encoder.bos,
        "bos": asdict(encoder.beginning),
        "tokens": seen_table(encoder.seen),
        "single_token_limit": encoder.limit,
    }
