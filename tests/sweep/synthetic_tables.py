"""The tables of a made-up task whose numbers are closed forms: circuit, effects, neurons, and the two ablation
analyses."""

import numpy as np
import pandas as pd

POSITIONS = ("op1", "operator", "op2", "equals")
N_LAYERS, N_HEADS, D_MLP = 4, 4, 64
METRICS = ("logit_diff", "E", "kl")
HEADS = (0, 2, 3, 4, 5, 6, 6)
"""Heads of the circuit at each place of the steps."""
RIVALS = {
    "targeted": None, "random": "targeted", "kept": None, "random_kept": "kept", "new": None, "random_new": "new",
}  # fmt: skip
"""Arms of the ablation by prompt, each control with the arm it is tested against."""


def head_effect(place: int, layer: int, head: int) -> float:
    """Made-up logit difference at `=`; the order of the heads changes a little over the steps."""
    return (1 + place) * (1.0 + ((5 * layer + 3 * head) % 16) / 4) + (0.8 if (layer + head + place) % 3 == 0 else 0.0)


def circuit_tables(symbol: str, place: int, neurons: list[tuple[int, int]], kind: str) -> dict[str, pd.DataFrame]:
    """Tables `prompts`, `effects`, `circuit`, `faithfulness`, `first_layers`, `neurons`, `neuron_faithfulness`."""
    return {
        "prompts": _prompts(symbol, kind),
        "effects": _effects(symbol, place),
        "circuit": _circuit(symbol, place),
        "faithfulness": _faithfulness(symbol, place),
        "first_layers": pd.DataFrame(
            [(symbol, 2, 0.5, 0.9, 0.02, "given")],
            columns=["operator", "layer", "accuracy", "best", "base_rate", "rule"],
        ),
        "neurons": _neurons(symbol, place, neurons),
        "neuron_faithfulness": _neuron_faithfulness(symbol, place),
    }


def _prompts(symbol: str, kind: str) -> pd.DataFrame:
    n = 40 if kind == "own" else 30
    rows = [
        (symbol, f"{i + 3}{symbol}{i % 3}=", i + 3, "9+3=", 12, part, "any", 0, i + 3, i % 3, "+", 9, 3)
        for part in ("discover", "evaluate")
        for i in range(n)
    ]
    names = [
        "operator",
        "prompt",
        "answer",
        "counterfactual",
        "counterfactual_answer",
        "set",
        "change",
        "seed",
        "op1",
        "op2",
    ]
    return pd.DataFrame(rows, columns=[*names, *(f"counterfactual_{w}" for w in ("operator", "op1", "op2"))])


def _effects(symbol: str, place: int) -> pd.DataFrame:
    rows = []
    for position in POSITIONS:
        for layer in range(N_LAYERS):
            for head in (*range(N_HEADS), None):
                if head is None:
                    value = (1 + place) * (2.0 if layer == 0 and position != "equals" else 0.3 * layer)
                else:
                    value = head_effect(place, layer, head) if position == "equals" else 0.02 * layer
                kind = "mlp" if head is None else "head"
                rows += [(symbol, "any", position, layer, kind, head, m, value, 0.9 * value, 0.05, 40) for m in METRICS]
    names = ["operator", "change", "position", "layer", "kind", "head", "metric", "mean", "median", "sem", "n"]
    return pd.DataFrame(rows, columns=names).astype({"head": "Int64"})


def _circuit(symbol: str, place: int) -> pd.DataFrame:
    cells = [(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
    ranked = sorted(cells, key=lambda c: -head_effect(place, *c))
    rows = [
        (symbol, "head", layer, head, i + 1, "equals", head_effect(place, layer, head), i < HEADS[place])
        for i, (layer, head) in enumerate(ranked)
    ]
    rows += [(symbol, "mlp", layer, None, 0, None, float("nan"), True) for layer in range(N_LAYERS)]
    names = ["operator", "kind", "layer", "head", "rank", "position", "effect", "in_circuit"]
    return pd.DataFrame(rows, columns=names).astype({"head": "Int64"})


def circuit_faithfulness(place: int, heads: int) -> float:
    """Made-up F of the ranked circuit with so many heads."""
    return float(1 - np.exp(-2.4 * heads / max(HEADS[place], 1)))


def _faithfulness(symbol: str, place: int) -> pd.DataFrame:
    rows = []
    for part in ("discover", "evaluate"):
        rows += [_f(symbol, part, "full", 16, 0, 1.0, False), _f(symbol, part, "empty", 0, 0, 0.0, False)]
        for n in range(17):
            rows.append(_f(symbol, part, "ranked", n, 0, circuit_faithfulness(place, n), n == HEADS[place]))
        if part == "evaluate":
            rows += [_f(symbol, part, "random", n, d, 0.02 * n + 0.01 * d, False) for n in (2, 4, 8) for d in range(3)]
    return pd.DataFrame(rows)


def _f(symbol: str, part: str, kind: str, n: int, draw: int, value: float, chosen: bool) -> dict[str, object]:
    return {
        "operator": symbol, "set": part, "circuit": kind, "n_heads": n, "n_mlps": 4, "draw": draw, "n": 40,
        "undefined": 0, **_numbers(value), "chosen": chosen,
    }  # fmt: skip


def _numbers(value: float) -> dict[str, float]:
    return {
        "faithfulness": value, "faithfulness_sem": 0.02, "faithfulness_ratio": value - 0.01,
        "probability": min(max(value, 0.0), 1.0), "accuracy": min(max(value, 0.0), 1.0), "kl": 4 * max(1 - value, 0.0),
    }  # fmt: skip


def _neurons(symbol: str, place: int, neurons: list[tuple[int, int]]) -> pd.DataFrame:
    layer, index = (g.ravel() for g in np.meshgrid(np.arange(N_LAYERS), np.arange(D_MLP), indexing="ij"))
    chosen = np.zeros((N_LAYERS, D_MLP), dtype=bool)
    for at in neurons:
        chosen[at] = True
    effect = np.where(chosen[layer, index], 3.0 + place, 0.1) - 0.001 * index
    table = pd.DataFrame({"operator": symbol, "layer": layer, "neuron": index, "method": "exact"})
    table = table.assign(metric="logit_diff", effect=effect, std=0.2)
    table["rank"] = table.groupby("layer")["effect"].rank(ascending=False, method="first").astype("int64")
    return table.assign(important=chosen[layer, index])


def _neuron_faithfulness(symbol: str, place: int) -> pd.DataFrame:
    rows = [
        {"operator": symbol, "set": part, "ranking": "exact", "heads": "all", "top": top, "draw": 0, "n": 40,
         "undefined": 0, **_numbers(min(1.0, 0.3 + top / 20 + 0.01 * place)), "chosen": top == 12}
        for part in ("discover", "evaluate") for top in (0, 1, 5, 12, 25, 64)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def kept_share(place: int, rival: bool) -> float:
    """Made-up F(kept); F(all) is .9."""
    return 0.2 if rival else 0.5 + 0.06 * place


def knocked_out(arm: str, per_layer: int, rival: bool) -> float:
    """Made-up accuracy under zero ablation."""
    strength = {"targeted": 0.03, "kept": 0.004 if rival else 0.025, "new": 0.024 if rival else 0.003}
    return max(0.0, 1.0 - strength.get(arm, 0.002) * per_layer)


def ablation_tables(symbol: str, place: int, *, rival: bool) -> dict[str, pd.DataFrame]:
    """Tables `kept_faithfulness` and `knockouts_by_prompt`, both label kinds, own and shared prompts alike."""
    sets = {"all": (0.9, 24), "kept": (kept_share(place, rival), 4 + 3 * place), "new": (0.7 if rival else 0.35, 8),
            "random_kept": (0.25, 4 + 3 * place), "random_new": (0.25, 8), "none": (0.2, 0)}  # fmt: skip
    kept, knockouts = [], []
    for prompts in ("own", "shared"):
        for labels in ("matched", "significant"):
            for heads in ("all", "circuit"):
                for name, (value, count) in sets.items():
                    drawn = name.startswith("random")
                    for draw in range(5) if drawn else (0,):
                        shown = value - 0.05 * (heads == "circuit") + 0.01 * (draw - 2) * drawn
                        key = {"operator": symbol, "prompts": prompts, "labels": labels, "heads": heads}
                        key |= {"neurons": name, "draw": draw, "n_neurons": count, "n": 40, "undefined": 0}
                        kept.append(key | _numbers(shown))
            for ablation in ("zero", "mean"):
                key = {"prompts": prompts, "labels": labels, "ablation": ablation}
                for per_layer in (5, 10, 25):
                    left = {arm: knocked_out(arm, per_layer, rival) for arm in RIVALS}
                    if ablation == "mean":
                        left = {arm: 0.5 + value / 2 for arm, value in left.items()}
                    for arm, other in RIVALS.items():
                        knockouts.append(_knockout(symbol, key, arm, per_layer, left[arm], left.get(str(other))))
    return {"kept_faithfulness": pd.DataFrame(kept), "knockouts_by_prompt": pd.DataFrame(knockouts)}


def _knockout(
    symbol: str, key: dict[str, object], arm: str, per_layer: int, accuracy: float, rival: float | None
) -> dict[str, object]:
    """One row; p is on the control's row and small where its rival loses .2 more."""
    n = 50
    correct = round(accuracy * n)
    p = float("nan") if rival is None else (1e-6 if accuracy - rival > 0.2 else 0.5)
    return {
        "operator": symbol, **key, "arm": arm, "per_layer": per_layer, "neurons": 2.0 * per_layer, "n": n,
        "correct": correct, "accuracy": correct / n, "low": max(0.0, correct / n - 0.1),
        "high": min(1.0, correct / n + 0.1), "probability": accuracy, "p": p,
    }  # fmt: skip
