"""A task of a sweep: one model at one revision, one operator, one set of stages; and what became of it.

A task is data: everything its numbers depend on is in it, so it can be written to disk, sent to another machine and run
twice. What it writes goes to `tasks/<model>/<revision>/<operator>/` of the sweep's folder (catalogue.TaskFiles):

    task.json      the task, to refuse another one in the same place
    own/           a run on the checkpoint's own correct prompts
    shared/        a run on the reference's prompts that this checkpoint answers correctly too
    outcome.json   written last: done, no circuit (nothing is answered better than by one constant answer: that is
                   data), or failed, and why

Every checkpoint of a model is compared with one of them, the reference (the last that can be read), whose tasks run
first: it gives the prompts of `shared/` and, unless they were asked for, the first layer whose neurons count and (with
`top` None) how many of each layer, so that all checkpoints are cut by one rule.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

from arithcirc.arithmetic.operators import operator
from arithcirc.config import (
    CircuitConfig,
    HeuristicConfig,
    KnockoutConfig,
    NeuronConfig,
    ProbeConfig,
    PromptConfig,
)
from arithcirc.errors import RequestError

StageSet = Literal["circuit", "neurons", "heuristics"]
STAGE_SETS: tuple[StageSet, ...] = get_args(StageSet)
"""Accuracy, localisation and faithfulness; also neuron effects; also labels and what the three analyses need."""

Status = Literal["done", "no circuit", "failed"]
Sent = TypeVar("Sent", bound="Sendable")


@dataclass(frozen=True)
class Settings:
    """What every task of a sweep shares: which stages, and the configuration of each.

    `level`: a checkpoint has a circuit only where its accuracy is above that of the most frequent answer at this
    one-sided p (1: wherever two prompts to discover and two to evaluate are answered correctly). What is right by luck
    or by a constant answer has no mechanism to find.
    """

    stages: StageSet = "heuristics"
    prompts: PromptConfig = field(
        default_factory=lambda: PromptConfig(n_discover=50, n_evaluate=100, counterfactual_seeds=1)
    )
    circuit: CircuitConfig = field(default_factory=lambda: CircuitConfig(random_circuits=3, mean_prompts=2000))
    probe: ProbeConfig = field(default_factory=lambda: ProbeConfig(prompts=2000))
    neurons: NeuronConfig = field(default_factory=lambda: NeuronConfig(top=100, random_draws=1))
    heuristics: HeuristicConfig = field(default_factory=HeuristicConfig)
    knockout: KnockoutConfig = field(default_factory=lambda: KnockoutConfig(by_prompt=100))
    level: float = 0.01

    def __post_init__(self) -> None:
        if self.stages not in STAGE_SETS:
            raise RequestError(f"--stages {self.stages!r} is not known: use one of {', '.join(STAGE_SETS)}")
        if not 0 < self.level <= 1:
            raise RequestError(
                f"--level {self.level:g} is not in (0, 1]: .01 is the default, 1 analyses every checkpoint"
            )


@dataclass(frozen=True)
class Loading:
    """How a task's model is loaded and run; `threads` None leaves all cores to it."""

    device: str | None = None
    device_map: str | None = None
    dtype: str = "float32"
    cache_dir: str | None = None
    offline: bool = False
    threads: int | None = None
    batch_size: int = 2048


@dataclass(frozen=True)
class Sendable:
    """What every task is: data with a way to load its model, to be run here or sent to another process."""

    loading: Loading = field(default_factory=Loading, kw_only=True)

    def on_threads(self: Sent, threads: int) -> Sent:
        """The same task on so many threads."""
        return replace(self, loading=replace(self.loading, threads=threads))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def text(self) -> str:
        """One line of JSON, for a worker's input."""
        return json.dumps(self.as_json(), ensure_ascii=False)


@dataclass(frozen=True)
class Task(Sendable):
    """One model, revision and operator.

    `model` is what `load` is given, `name` what it is called; `step` is the revision's training step where it has one.
    `reference` is the revision it is compared with, its own for the reference's tasks.
    """

    model: str
    name: str
    revision: str
    step: int | None
    operator: str
    reference: str
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        operator(self.operator)

    @property
    def key(self) -> tuple[str, str, str]:
        """What names a task within a sweep."""
        return self.name, self.revision, self.operator

    @property
    def is_reference(self) -> bool:
        """Whether the others of its model are compared with it."""
        return self.revision == self.reference

    def __str__(self) -> str:
        return f"{self.name} {self.revision} {self.operator}"

    def same_work(self, stored: dict[str, Any]) -> bool:
        """Whether a stored task asks for the same numbers: equal but for where and how fast it runs."""
        mine, theirs = (dict(values) for values in (self.as_json(), stored))
        ours, held = mine.pop("loading"), theirs.pop("loading", {})
        return mine == theirs and ours["dtype"] == held.get("dtype")

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Task":
        """From `as_json`'s values. Raises RequestError for values of another version."""
        try:
            given = dict(values)
            held = dict(given.pop("settings"))
            kinds = {
                "prompts": PromptConfig, "circuit": CircuitConfig, "probe": ProbeConfig, "neurons": NeuronConfig,
                "heuristics": HeuristicConfig, "knockout": KnockoutConfig,
            }  # fmt: skip
            sections: dict[str, Any] = {name: kind(**held.pop(name)) for name, kind in kinds.items()}
            return cls(**given | {"settings": Settings(**held, **sections), "loading": Loading(**given["loading"])})
        except (KeyError, TypeError) as error:
            raise RequestError(f"a task of another version of arithcirc ({error}): choose another --out") from None


@dataclass(frozen=True)
class Outcome:
    """What became of a task. `seconds` are of the work, `load_seconds` of loading the model (0 when it was loaded).

    `forwards` are whole forward passes of one prompt, as the plan counts them; `peak_bytes` is the largest resident
    memory of the process; `stages` are seconds by `own/<stage>` and `shared/<stage>`.
    """

    status: Status
    reason: str | None = None
    seconds: float = 0.0
    load_seconds: float = 0.0
    forwards: float = 0.0
    peak_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    n_shared: int = 0
    attempts: int = 1
    host: str = ""
    pid: int = 0
    finished: str = ""

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Outcome":
        """From `asdict`'s values; unknown ones are left out."""
        return cls(**{name: value for name, value in values.items() if name in cls.__dataclass_fields__})
