"""A sweep's folder with made-up numbers and a planted history, to test tables over the steps and their pages on.

The model has 4 layers of 4 heads and 64 neurons, operands 0..49, first layer 2, 12 important neurons per layer. With
the default steps 0, 64, 128, 256, 512, 1000, 2000 (the last is the reference):

    step 0        nothing is answered correctly: no circuit
    failed        the task of FAILED at FAILED_STEP
    reference     neurons 0..11 of layers 2 and 3; of each layer IMPORTANT[i] are important at the i-th step, and of the
                  rest as many others (20, 21, ...) as make 12
    pairs         `born` says from which step each reference neuron carries its heuristic for good; EVENTS add one that
                  dies, one that flickers, one that was away once and stays, one whose neuron is not measured any more
    `+`           the kept neurons carry accuracy at every step with a circuit
    `-`           at steps 64 and 128 the new neurons do: a rival
    answers       right with a chance that grows over the steps, JUMP more where a heuristic of JUMPERS holds and is
                  born

With `random` the labels, the important neurons and the answers say nothing: heuristics are drawn anew at every step,
from a list of LISTED, and answers do not depend on them.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sweep.synthetic_tables import ablation_tables, circuit_tables

from arithcirc.arithmetic.operators import OperandRange, legal_prompts, operator
from arithcirc.catalogue import SCHEMA, SweepFolder
from arithcirc.config import ModelConfig, RunConfig
from arithcirc.heuristics.names import parse_heuristic
from arithcirc.store import RunFolder, write_json
from arithcirc.sweep.task import Outcome, Settings, Task

STEPS = (0, 64, 128, 256, 512, 1000, 2000)
FAILED, FAILED_STEP = "-", 1000
N_LAYERS, N_HEADS, D_MLP, FIRST_LAYER, TOP, LIMIT = 4, 4, 64, 2, 12, 530
OPERANDS = OperandRange(0, 49)
IMPORTANT = (0, 4, 6, 8, 10, 11, 12)
NAME = "toy-arith"
JUMP = 0.35
JUMPERS = {"op1 in 30..40": 3, "op2 = 2 mod 5": 4}
"""Heuristics on whose prompts accuracy jumps, with the place of their birth in STEPS; carried by neurons 2 and 3."""
EVENTS = {
    "dies": (2, 0, "op2 in 40..50", (1, 2)),
    "flickers": (3, 1, "op2 in 0..10", (2, 4)),
    "stays": (2, 3, "op1 = 2 mod 11", (1, 3, 4, 5, 6)),
    "left": (2, 20, "result in 10..20", (1, 2, 3, 4, 5)),
}
"""Fate -> layer, neuron, heuristic and the steps (places in STEPS) at which it is present; neuron 20 of layer 2 is no
reference neuron and is important, so measured, only as long as IMPORTANT < TOP leaves it a place."""
LISTED = tuple(
    [f"{v} in {a}..{a + 10}" for v in ("op1", "op2", "result") for a in range(0, 50, 10)]
    + [f"{v} = {m} mod {n}" for v in ("op1", "op2", "result") for n in (3, 5, 7) for m in range(n)]
    + [f"both = {m} mod {n}" for n in (2, 3) for m in range(n)]
)
Pair = tuple[int, int, str]


def born() -> dict[Pair, int]:
    """(layer, neuron, heuristic) -> the place in STEPS from which it is there for good, for reference neurons."""
    pairs: dict[Pair, int] = {}
    for layer in (2, 3):
        for neuron in range(TOP):
            pairs[layer, neuron, LISTED[(layer * 7 + neuron) % 44]] = 1 + (layer + neuron) % 4
            if neuron % 3 == 2:
                pairs[layer, neuron, f"result = {neuron} mod 13"] = 5
    for place, (name, birth) in enumerate(JUMPERS.items()):
        pairs[2 + place, 2 + place, name] = birth
    return pairs


def important(step: int, *, shared: bool = False) -> list[tuple[int, int]]:
    """(layer, neuron) that are important at a place in STEPS; on shared prompts one neuron per layer is another."""
    if not IMPORTANT[step]:
        return []
    kept = range(IMPORTANT[step])
    others = [20 + i for i in range(TOP - IMPORTANT[step])]
    if shared and others:
        others[-1] = 40
    return [(layer, n) for layer in (2, 3) for n in (*kept, *others)]


def looked_at(step: int) -> list[tuple[int, int]]:
    """(layer, neuron) that are labelled at a place in STEPS: important ones and the reference's."""
    reference = [(layer, n) for layer in (2, 3) for n in range(TOP)]
    return sorted({*important(step), *important(step, shared=True), *reference}) if IMPORTANT[step] else []


def present(step: int) -> set[Pair]:
    """Significant pairs at a place in STEPS."""
    pairs = {pair for pair, birth in born().items() if birth <= step}
    pairs |= {(layer, n, h) for layer, n, h, at in EVENTS.values() if step in at}
    early = {(layer, n, LISTED[44 + (3 * n + step + layer) % 21]) for layer, n in important(step) if n > 20}
    here = set(looked_at(step))
    return {pair for pair in pairs | early if pair[:2] in here}


def _random_pairs(step: int, seed: int) -> tuple[list[tuple[int, int]], set[Pair]]:
    rng = np.random.default_rng([seed, step])
    neurons = [(layer, int(n)) for layer in (2, 3) for n in rng.permutation(D_MLP)[:TOP]]
    return neurons, {(layer, n, str(h)) for layer, n in neurons for h in rng.permutation(LISTED)[:3]}


def labels(symbol: str, neurons: list[tuple[int, int]], pairs: set[Pair]) -> pd.DataFrame:
    """The `heuristics` table: the pairs, one more per even neuron that is matched only, an unmatched row for the
    rest."""
    rows = [(*pair, True, True, 0.9) for pair in sorted(pairs)]
    rows += [(layer, n, "result = 0 mod 2", True, False, 0.62) for layer, n in neurons if n % 2 == 0]
    named = {row[:2] for row in rows}
    rows += [(*neuron, "op1 = 1 mod 2", False, False, 0.51) for neuron in neurons if neuron not in named]
    columns = ["layer", "neuron", "heuristic", "matched", "significant", "score"]
    table = pd.DataFrame(sorted(rows), columns=columns)
    parsed = [parse_heuristic(name) for name in table["heuristic"]]
    return table.assign(
        operator=symbol, family=[h.family for h in parsed], value=[h.value for h in parsed],
        kind=[h.kind for h in parsed], end="top", size=100, base_rate=0.1, p_hypergeometric=1e-9, p=1e-8, p_shift=0.01,
        q=np.where(table["significant"], 1e-5, 0.2),
    )[["operator", "layer", "neuron", "heuristic", "family", "value", "kind", "end", "size", "score", "base_rate",
       "p_hypergeometric", "p", "p_shift", "q", "matched", "significant"]]  # fmt: skip


def ramp(step: int) -> float:
    """Chance of a right answer outside every heuristic that makes it jump."""
    return (0.0, 0.05, 0.12, 0.25, 0.4, 0.5, 0.6)[step]


def answers(symbol: str, step: int, *, seed: int = 0, jumps: bool = True) -> pd.DataFrame:
    """What is answered to every legal prompt; a right answer stays right."""
    prompts = legal_prompts(operator(symbol), OPERANDS, LIMIT)
    chance = np.full(len(prompts), ramp(step))
    for name, birth in JUMPERS.items():
        if jumps and step >= birth:
            chance += JUMP * parse_heuristic(name).mask(prompts)
    right = np.random.default_rng([seed, ord(symbol)]).random(len(prompts)) < chance
    given = np.where(right, prompts.answer, (prompts.answer + 1) % LIMIT)
    columns = {"operator": symbol, "op1": prompts.op1, "op2": prompts.op2, "answer": prompts.answer}
    return pd.DataFrame(columns | {"given": given, "correct": right})


def synthetic_sweep(
    path: Path, *, steps: tuple[int, ...] = STEPS, operators: str = "+-", seed: int = 0, random: bool = False
) -> SweepFolder:
    """Write the folder; `steps` are taken for the places of STEPS in order, the last one always for the last place."""
    places = [*range(len(steps) - 1), len(STEPS) - 1]
    revisions = [{"revision": f"step{s}", "step": s} for s in steps]
    reference = str(revisions[-1]["revision"])
    settings = Settings()
    manifest = {
        "schema": SCHEMA, "created": "2026-01-01T00:00:00+00:00", "updated": "2026-01-01T00:10:00+00:00",
        "command": f"arithcirc sweep {NAME} --operators {operators}", "git_sha": "0" * 40, "packages": {},
        "models": [
            {"model": NAME, "name": NAME, "revisions": revisions, "reference": reference, "reference_note": None}
        ],
        "operators": operators, "settings": asdict(settings), "loading": {}, "executor": "local", "workers": 2,
        "notes": {},
    }  # fmt: skip
    sweep = SweepFolder(path, manifest)
    sweep.save()
    for symbol in operators:
        for step, place in zip(steps, places, strict=True):
            task = Task(NAME, NAME, f"step{step}", step, symbol, reference, settings)
            _write_task(sweep, task, place, seed, random)
    return sweep


def _write_task(sweep: SweepFolder, task: Task, place: int, seed: int, random: bool) -> None:
    files = sweep.files(task.name, task.revision, task.operator)
    files.folder.mkdir(parents=True)
    write_json(files.task, task.as_json())
    outcome = Outcome("done", None, 9.5 + place, 0.5, 1e5, 600 << 20, {"own/prompts": 1.0}, 80, 1, "here", 1)
    if task.operator == FAILED and task.step == FAILED_STEP:
        outcome = Outcome(
            "failed", "weights of step1000 cannot be read: the file is cut short", 0.1, host="here", pid=1
        )
    else:
        for kind in ("own", "shared"):
            tables = dict(_tables(task, place, kind, seed, random))
            if not IMPORTANT[place]:
                outcome = Outcome("no circuit", "no prompt is answered correctly", 1.0, 0.5, 2e3, 600 << 20)
            if tables and not (kind == "shared" and (task.is_reference or not IMPORTANT[place])):
                _write_run(getattr(files, kind), task, tables)
    write_json(files.outcome, asdict(outcome))


def _tables(task: Task, place: int, kind: str, seed: int, random: bool) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables of one run folder; labels, answers and analyses are in own/ only."""
    said = answers(task.operator, place, seed=seed, jumps=not random)
    legal = len(said)
    correct = int(said["correct"].sum())
    row = (task.operator, legal, correct, correct / legal, 0.02, legal, None, None)
    columns = ["operator", "n", "correct", "accuracy", "base_rate", "legal", "skipped", "note"]
    if kind == "own":
        yield "accuracy", pd.DataFrame([row], columns=columns)
    if not IMPORTANT[place]:
        return
    neurons, pairs = important(place, shared=kind == "shared"), present(place)
    labelled = looked_at(place)
    if random:
        neurons, pairs = _random_pairs(place, seed)
        labelled = neurons
    yield from circuit_tables(task.operator, place, neurons, kind).items()
    if kind == "own":
        table = labels(task.operator, labelled, pairs)
        counts = {
            name: len(table[table[name]].drop_duplicates(["layer", "neuron"])) for name in ("matched", "significant")
        }
        counts |= {"structured": counts["significant"], "unlabelled": len(labelled) - counts["significant"]}
        summary = {"operator": task.operator, "important": len(labelled), **counts}
        summary |= {"heuristics": len(LISTED) if random else 200, "tests": 4800, "pairs": len(pairs)}
        yield "heuristics", table
        yield "label_summary", pd.DataFrame([summary])
        yield "answers", said
        yield from ablation_tables(task.operator, place, rival=task.operator == "-" and place in (1, 2)).items()


def _write_run(path: Path, task: Task, tables: dict[str, pd.DataFrame]) -> None:
    config = RunConfig(model=ModelConfig(NAME, task.revision, "a" * 64, "b" * 64, "float32"), **_sections(task))
    model = {
        "name": NAME, "revision": task.revision, "architecture": "GPTNeoXForCausalLM", "n_layers": N_LAYERS,
        "n_heads": N_HEADS, "d_model": 64, "d_mlp": D_MLP, "d_head": 16, "d_vocab": 539, "n_params": 300_000,
        "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    facts = {"model": model, "single_token_limit": LIMIT, "bos_id": 0, "batch_size": 2048}
    run = RunFolder.create(path, config, sections=("model", "prompts", "circuit", "neurons", "heuristics"), facts=facts)
    names = []
    for name, table in tables.items():
        table.to_parquet(path / f"{name}.parquet", index=False)
        names.append(f"{name}.parquet")
    run.finish("all", names, seconds=1.0)


def _sections(task: Task) -> dict[str, object]:
    s = task.settings
    prompts = replace(s.prompts, operators=task.operator, operands=str(OPERANDS))
    return {"prompts": prompts, "circuit": s.circuit, "neurons": s.neurons, "heuristics": s.heuristics}
