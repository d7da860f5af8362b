"""A run folder whose labels, maps, effects and knockouts are those of `planted_live`, so every number is known.

Operands are 0..59. Other tables are those of `viz.synthetic`. `score` is the share of a heuristic's prompts that its
neuron follows: what the table, the stored map and a page must agree on.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from explorer import planted_live as world
from viz import synthetic, synthetic_neurons

from arithcirc.components import Neuron
from arithcirc.config import ModelConfig, PromptConfig, RunConfig
from arithcirc.neuron_maps import maps_file
from arithcirc.store import RunFolder

CASES = 40
PAIRS = 30
OPERATORS = synthetic.OPERATORS


def score(operator: str, neuron: Neuron, name: str) -> float:
    """Share of the heuristic's legal prompts at which the neuron is at its end; what is not planted scores .2."""
    if world.carriers(operator).get(neuron) != name:
        return 0.2
    a, b, r = world.legal(operator)
    held = world.HOLDS[name](a, b, r)
    return float(1 - world.misses(neuron, world.ranks(operator)[neuron], a[held], b[held]).mean())


def heuristics() -> pd.DataFrame:
    """Each important neuron against each planted heuristic, with the scores of the planted maps."""
    families = {name: (family, value, kind) for name, family, value, kind, _ in synthetic_neurons.LABELS}
    rows = []
    for operator in OPERATORS:
        a, b, r = world.legal(operator)
        sizes = {name: int(where(a, b, r).sum()) for name, where in world.HOLDS.items()}
        for neuron, rank in world.ranks(operator).items():
            for name in world.HOLDS:
                own = world.carriers(operator).get(neuron) == name
                q = 1e-6 if own and rank <= 5 else 0.3
                value, base = score(operator, neuron, name), sizes[name] / len(a)
                matched = value >= 0.6
                row = (
                    operator,
                    neuron.layer,
                    neuron.index,
                    name,
                    *families[name],
                    world.end(name),
                    sizes[name],
                    value,
                    base,
                )
                rows.append((*row, q / 5, q / 3, q / 4, q, matched, matched and q < 0.01))
    return pd.DataFrame(rows, columns=list(synthetic_neurons.heuristics().columns))


def answers() -> pd.DataFrame:
    """What the planted model says to every legal prompt."""
    parts = []
    for operator in OPERATORS:
        a, b, r = world.legal(operator)
        given, _ = world.said_unbroken(operator)
        parts.append(
            pd.DataFrame({"operator": operator, "op1": a, "op2": b, "answer": r, "given": given, "correct": given == r})
        )
    return pd.concat(parts, ignore_index=True)


def prompts() -> pd.DataFrame:
    """PAIRS prompts of each operator and set, spread over the legal ones."""
    rows = []
    for operator in OPERATORS:
        a, b, r = world.legal(operator)
        for shift, name in enumerate(("discover", "evaluate")):
            for i in _spread(len(a), PAIRS, shift):
                rows.append((operator, f"{a[i]}{operator}{b[i]}=", a[i], b[i], r[i], name, "any", 0, "9+3=", 12))
    return pd.DataFrame(rows, columns=list(synthetic.prompts().columns))


def failures() -> pd.DataFrame:
    """Prompts answered rightly and wrongly, with the carriers that vote and what they write."""
    said, rows = answers(), []
    for operator in OPERATORS:
        part = said[said["operator"] == operator]
        for correct, n in ((True, 20), (False, 10)):
            some = part[part["correct"] == correct]
            for row in some.iloc[_spread(len(some), n, 0)].itertuples(index=False):
                a, b = np.array([row.op1]), np.array([row.op2])
                on = [n for n in world.carriers(operator) if abs(world.activation(operator, n, a, b)[0]) > 1]
                sum_ = sum(float(world.activation(operator, n, a, b)[0] * _value(operator, n)[row.answer]) for n in on)
                rows.append(
                    (operator, f"{row.op1}{operator}{row.op2}=", row.answer, str(row.given), correct, len(on), sum_)
                )
    return pd.DataFrame(rows, columns=list(synthetic_neurons.failures().columns))


TABLES = synthetic.TABLES | {"heuristics": heuristics, "answers": answers, "prompts": prompts, "failures": failures}


def _value(operator: str, neuron: Neuron) -> np.ndarray:
    return world.values(operator)[neuron.layer, neuron.index]


def _spread(total: int, n: int, shift: int) -> np.ndarray:
    """n places spread evenly over a total, the sets apart by `shift`."""
    n = min(n, total)
    return (np.arange(n) * total // max(n, 1) + shift) % max(total, 1)


def maps(operator: str) -> dict[str, np.ndarray]:
    """The arrays of `maps_<operator>.safetensors` for the important neurons."""
    a, b, r = world.legal(operator)
    held = list(world.ranks(operator))
    at = _spread(len(a), PAIRS, 0)
    table = synthetic_neurons.neuron_effect
    effects, drops, falls, after, cases, leads = [], [], [], [], np.empty((0, 3)), np.empty(0)
    for neuron in held:
        k = world.activation(operator, neuron, a[at], b[at]).astype(np.float64)
        effects.append(table(operator, neuron.layer, neuron.index) + 0.1 * (np.abs(k) - np.abs(k).mean()))
        broken = world.PlantedLive().knock_out(operator, [neuron], n=CASES)
        cases = np.stack([broken.op1, broken.op2, broken.answer], axis=1)
        drops.append(broken.drop)
        falls.append(broken.fall)
        leads = broken.lead
        after.append(broken.after)
    return {
        "neurons": np.array([(n.layer, n.index) for n in held], dtype=np.int32),
        "k": np.stack([world.activation(operator, n, a, b) for n in held]).astype(np.float16),
        "value": np.stack([_value(operator, n) for n in held]).astype(np.float32),
        "prompts": np.stack([a, b, r], axis=1).astype(np.int32),
        "effects": np.array(effects, dtype=np.float32),
        "pairs": np.stack([a[at], b[at]], axis=1).astype(np.int32),
        "drops": np.array(drops, dtype=np.float32),
        "falls": np.array(falls, dtype=np.float32),
        "leads": leads.astype(np.float32),
        "after": np.array(after, dtype=np.int32),
        "cases": cases.astype(np.int32),
    }


def make_explorer_run(
    path: Path, *, name: str = "planted", tables: tuple[str, ...] = tuple(TABLES), with_maps: bool = True
) -> RunFolder:
    """A finished run with the tables named, and the maps of all operators."""
    model = ModelConfig(name, "step4000", "a" * 64, "b" * 64, "float32")
    config = RunConfig(model=model, prompts=PromptConfig(operands=f"0..{world.SIDE - 1}"))
    facts = {
        "name": name, "revision": "step4000", "architecture": "GPTNeoXForCausalLM", "n_layers": world.LAYERS,
        "n_heads": 4, "d_model": 128, "d_mlp": world.WIDTH, "n_params": 1_327_872, "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    sections = ("model", "prompts", "circuit", "neurons", "heuristics")
    run = RunFolder.create(path, config, sections=sections, facts={"model": facts, "single_token_limit": world.LIMIT})
    for stage, names in synthetic.STAGES.items():
        made = [run.write_table(t, TABLES[t]()) for t in names if t in tables]
        arrays = [synthetic_neurons.ARRAYS[t] for t in names if t in tables and t in synthetic_neurons.ARRAYS]
        made += [run.write_arrays(array, make()) for array, make in arrays]
        if made:
            run.finish(stage, made, seconds=12.345)
    if with_maps:
        stored = {
            operator: run.write_arrays(maps_file(operator).split(".")[0], maps(operator)) for operator in OPERATORS
        }
        run.finish("maps", list(stored.values()), seconds=1.0)
    return run


def lone_prompt(operator: str, name: str) -> str:
    """A prompt of this heuristic alone that every carrier follows: right, and DECOY without any one of them."""
    said = answers()
    part = said[(said["operator"] == operator) & said["correct"] & (said["answer"] != world.DECOY)]
    for row in part.itertuples(index=False):
        a, b, r = np.array([row.op1]), np.array([row.op2]), np.array([row.answer])
        if [n for n, where in world.HOLDS.items() if where(a, b, r)[0]] == [name]:
            return f"{row.op1}{operator}{row.op2}="
    raise LookupError(name)
