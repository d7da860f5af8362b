"""An axiom study and an opened model as tables on disk, with answers that are known: nothing is trained.

TS2 without positions beats the shortcuts everywhere but on branching graphs of 12 nodes with 2 edges a node and on
shuffled chains of 9, where end roles is nearly as good; with learned positions it knows the trained lengths only; OCC
answers as mention order does.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from arithcirc.axioms.evaluation import FAMILIES, cells
from arithcirc.axioms.published import published_table
from arithcirc.axioms.study.bars import judge
from arithcirc.store import RunFolder

SETS = cells(FAMILIES, longest=50)
MODELS = (("TS2", "none", 0), ("TS2", "learned", 0), ("OCC", "none", 0))
EXAMS = ("sequential-06", "flipped-06")
LAYERS, HEADS = 2, 2
TOKENS = ["A", "causes", "B", ".", "B", "causes", "C", ".", "Does", "A", "cause", "C", "?"]
ROLES = ["cause", "causes", "effect", "stop"] * 2 + ["does", "asked cause", "verb", "asked effect", "mark"]
PREMISE = 8


@dataclass(frozen=True)
class Plain:
    """Sections as they are."""

    sections: dict

    def section(self, name):
        return self.sections[name]


def mention(cell):
    """Accuracy of mention order."""
    return {"sequential": 1.0, "names": 1.0, "reversal": 0.08}.get(cell.family, 0.5)


def roles(cell):
    """Hard accuracy of end roles."""
    if cell.family in ("sequential", "names"):
        return 0.8
    return 0.88 if (cell.family, cell.nodes) == ("shuffled", 9) else 0.75


def shortcut(name, cell):
    """Hard accuracy of a shortcut."""
    return {"mention order": mention, "end roles": roles}.get(name, lambda _: 0.5)(cell)


SHORTCUTS = ("mention order", "literal edge", "end roles")


def answers(mix, positions, cell):
    """Accuracy, equal to the hard one, and half the width of its interval."""
    if mix == "OCC":
        return mention(cell)
    if positions == "learned" and (cell.family not in ("sequential", "flipped") or cell.nodes > 6):
        return 0.52
    return 0.55 if (cell.family, cell.nodes, cell.factor) == ("branching", 12, 2.0) else 0.9


def cell_rows(models=MODELS):
    rows = []
    for mix, positions, seed in models:
        who = {"model": f"{mix}-{positions}-s{seed}", "mix": mix, "positions": positions, "seed": seed,
               "asked_seed": seed, "counted": True, "kind": "model"}  # fmt: skip
        rows += [who | _cell(cell, answers(mix, positions, cell)) for cell in SETS if positions != "learned" or
                 cell.nodes < 50]  # fmt: skip
    for name in SHORTCUTS:
        who = {"model": name, "mix": "", "positions": "", "seed": None, "asked_seed": None, "counted": True,
               "kind": "shortcut"}  # fmt: skip
        for cell in SETS:
            hard = shortcut(name, cell)
            rows.append(who | _cell(cell, hard) | {"accuracy": 0.75 if name == "literal edge" else hard})
    made = pd.DataFrame(rows)
    return made.astype({"seed": "Int64", "asked_seed": "Int64", "factor": "Float64"})


def _cell(cell, value):
    low, high = max(0.0, value - 0.05), min(1.0, value + 0.05)
    return {
        "family": cell.family, "nodes": cell.nodes, "factor": cell.factor, "questions": 200, "graphs": 200,
        "accuracy": value, "low": low, "high": high, "hard": value, "hard_low": low, "hard_high": high,
        "hard_questions": 150, "said_yes": 0.5, "neither": 0.0,
    }  # fmt: skip


def hop_rows(rows):
    """Half of the questions are No, the others have paths of 1 to 3 edges; long ones are answered worse."""
    kept = rows[["model", "mix", "positions", "kind", "counted", "family", "nodes", "factor"]]
    parts = [(0, 100, 0.9), (1, 60, 1.0), (2, 30, 0.7), (3, 4, 0.2)]
    return pd.concat([kept.assign(hops=h, questions=n, accuracy=v) for h, n, v in parts], ignore_index=True)


def training_rows(models=MODELS):
    rows = []
    for mix, positions, seed in models:
        name = f"{mix}-{positions}-s{seed}"
        rows += [(name, step, "loss", np.nan, 0.7 * np.exp(-step / 50), step / 10) for step in range(0, 200, 20)]
        rows += [(name, step, exam, 0.5 + step / 400, np.nan, step / 10) for step in (0, 100, 200) for exam in EXAMS]
    return pd.DataFrame(rows, columns=["model", "step", "part", "accuracy", "loss", "seconds"])


def model_rows(models=MODELS):
    rows = [
        {"model": f"{m}-{p}-s{s}", "mix": m, "positions": p, "seed": s, "asked_seed": s, "counted": True,
         "learned": 0.9, "steps": 200, "seconds": 90.0, "weights": "0" * 64,
         "folder": f"models/{m}-{p}-s{s}/step200", "left_out": ["sequential-50"] if p == "learned" else []}
        for m, p, s in models
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write_study(root, *, models=MODELS, without=()):
    """The folder `study/` of a study; tables named in `without` are left out."""
    config = Plain(
        {"recipe": {"name": "small", "chain_lengths": [3, 6], "steps": 200}, "evaluation": {"questions": 200}}
    )
    run = RunFolder.create(root / "study", config, sections=("recipe", "evaluation"), facts={"command": "planted"})
    made = {"cells": cell_rows(models), "training": training_rows(models), "models": model_rows(models),
            "published": published_table()}  # fmt: skip
    made["hops"] = hop_rows(made["cells"])
    made["bars"] = judge(made["cells"], demanded=True)
    files = [run.write_table(name, table) for name, table in made.items() if name not in without]
    run.finish("tables", files)
    return run


# -- an opened model ---------------------------------------------------------------------------------------------------


def write_opening(folder, *, model="models/TS2-none-s0/step200", word="rule in part", only=None):
    """The run folder of an opened model; `only`: these tables."""
    run = RunFolder.create(
        folder, Plain({"opening": {"questions": 160, "seed": 0}}), sections=("opening",), facts={"model": model}
    )
    made = _patching() | _edges() | _depth() | _circuit() | _neurons() | _walk() | _verdict(word)
    run.finish("all", [run.write_table(n, t) for n, t in made.items() if only is None or n in only])
    return run


def write_comparison(root):
    run = RunFolder.create(root / "opening", Plain({"opening": {"questions": 160}}), sections=("opening",), facts={})
    rows = [
        ("accuracy", "flipped-09", 0.9, 0.5, -0.4, None, None),
        ("accuracy", "flipped-15", 0.9, np.nan, np.nan, None, None),
        ("hard accuracy", "flipped-09", 0.9, 0.5, -0.4, None, None),
        ("attention along edges: asked cause", "designed", 0.6, 0.58, -0.02, None, None),
        ("circuit heads", "", 8.0, 8.0, 0.0, None, None),
        ("circuit mlps", "", 3.0, 4.0, 1.0, None, None),
        ("verdict", "", np.nan, np.nan, np.nan, "rule in part", "shortcut"),
    ]
    columns = ["measure", "questions", "none", "learned", "difference", "text_none", "text_learned"]
    run.finish("comparison", [run.write_table("comparison", pd.DataFrame(rows, columns=columns))])
    return run


def _patching():
    """All of the difference is at the cause of the sentence that differs before layer 0, and at the mark at the end."""
    rows = []
    places = [(r, o) for o in (0, 1, 3) for r in ROLES[:4]] + [(r, None) for r in ROLES[8:]]
    for component, layers in (("residual", 3), ("attention", 2), ("mlp", 2)):
        for layer in range(layers):
            for role, offset in places:
                on = (role, offset) == (("cause", 0) if layer == 0 else ("mark", None))
                rows.append(("edge turned", component, layer, None, role, offset, 8, float(on), 0.01))
    for layer in range(LAYERS):
        for head in range(HEADS):
            for role, offset in places:
                on = (layer, head, role) == (1, 0, "mark")
                rows.append(("edge turned", "head", layer, head, role, offset, 8, 0.7 * on, 0.01))
    columns = ["pair", "component", "layer", "head", "role", "offset", "pairs", "effect", "se"]
    return {"patching": pd.DataFrame(rows, columns=columns).astype({"head": "Int64", "offset": "Int64"})}


def _edges():
    """Head L1H0 follows the asked cause to where it is the cause, and is needed there."""
    rows = []
    for layer in range(LAYERS):
        for head in range(HEADS):
            for query, node in (("asked cause", "cause"), ("mark", "effect")):
                for target in ("as cause", "as effect"):
                    on = (layer, head, query, target) == (1, 0, "asked cause", "as cause")
                    seen = (0.8, 0.9, 0.3, 0.5, 0.6) if on else (0.2, 0.3, 0.3, 0.0, 0.0)
                    rows.append(("designed", layer, head, query, node, target, 40, *seen, 0.02, 0.9))
    columns = [
        "questions",
        "layer",
        "head",
        "query",
        "node",
        "target",
        "n",
        "attention",
        "share",
        "base_rate",
        "excess",
    ]
    return {"edge_heads": pd.DataFrame(rows, columns=[*columns, "effect", "se", "right"])}


def _depth():
    """A path of n edges is read after n layers, at the mark."""
    rows, curves, needed = [], [], []
    for layer in range(LAYERS + 1):
        for role in ("last stop", *ROLES[8:]):
            for distance in (0, 1, 2):
                value = 0.95 if role == "mark" and layer >= max(distance, 1) else 0.5
                rows.append((layer, role, distance, 300, 200, value, value - 0.04, value + 0.04, 0.5, 0.56))
        for curve, scope in (("read", "mark"), ("attention", "everywhere"), ("attention", "premise")):
            for distance in (0, 1, 2):
                value = 0.95 if layer >= max(distance, 1) else 0.5
                curves.append((curve, scope, distance, layer, 200, value, value - 0.04, value + 0.04))
    for curve, scope in (("read", "mark"), ("attention", "everywhere"), ("attention", "premise")):
        needed += [(curve, scope, d, 200, max(d, 1), 0.9, 0.95) for d in (0, 1, 2)]
    probe = ["layer", "role", "distance", "train", "test", "accuracy", "low", "high", "shuffled", "shuffled_high"]
    curve_columns = ["curve", "scope", "distance", "layers", "n", "accuracy", "low", "high"]
    need_columns = ["curve", "scope", "distance", "n", "needed", "wanted", "best"]
    return {
        "reach_probes": pd.DataFrame(rows, columns=probe),
        "layer_curves": pd.DataFrame(curves, columns=curve_columns),
        "layers_needed": pd.DataFrame(needed, columns=need_columns).astype({"needed": "Int64"}),
    }


def _circuit():
    parts = [("L0H1", "head", 0, 1, 0.01, 1, np.nan, False), ("L0MLP", "mlp", 0, None, 0.02, 2, 0.98, False),
             ("L0H0", "head", 0, 0, 0.4, 3, 0.5, True), ("L1MLP", "mlp", 1, None, 0.5, 4, 0.2, True),
             ("L1H1", "head", 1, 1, 0.5, 5, 0.1, True), ("L1H0", "head", 1, 0, 0.9, 6, 0.0, True)]  # fmt: skip
    columns = ["part", "kind", "layer", "head", "alone", "removed", "faithfulness_after", "in_circuit"]
    rows = []
    for questions in ("designed", "flipped-06"):
        rows += [(questions, "full", 0, 4, 2, 80, 5.0, 1.0, np.nan, 0.95, 0.9, 0.98),
                 (questions, "empty", 0, 0, 0, 80, 0.0, 0.0, np.nan, 0.5, 0.4, 0.6),
                 (questions, "found", 0, 3, 1, 80, 4.6, 0.92, 0.97, 0.94, 0.88, 0.97),
                 (questions, "without", 0, 1, 1, 80, 0.1, 0.03, np.nan, 0.5, 0.4, 0.6)]  # fmt: skip
        rows += [(questions, "random", d, 3, 1, 80, 1.0, 0.1 * d, np.nan, 0.6, 0.5, 0.7) for d in range(3)]
    judged = ["questions", "circuit", "draw", "heads", "mlps", "n", "margin", "faithfulness", "completeness"]
    return {
        "circuit": pd.DataFrame(parts, columns=columns).astype({"head": "Int64"}),
        "faithfulness": pd.DataFrame(rows, columns=[*judged, "accuracy", "low", "high"]),
    }


def _neurons():
    classes = ("mention order", "edge stated", "reachable", "none")
    rows = [(role, layer, n, 0.0, 1.0, 0.1, 0.1, 0.1, classes[n % 4 if layer else 3])
            for role in ("asked effect", "mark") for layer in range(LAYERS) for n in range(8)]  # fmt: skip
    columns = ["role", "layer", "neuron", "mean", "spread", "mention", "stated", "reachable", "class"]
    knocked = [(q, c, 4, 4, 80, 0.9, 0.85, 0.95, 0.95, 0.94, 0.4 if c == "reachable" else 0.0, 0.02, 0.01, 0.05)
               for q in ("designed", "flipped-06") for c in classes[:3]]  # fmt: skip
    knock = ["questions", "class", "of_class", "neurons", "n", "accuracy", "low", "high", "clean", "random", "lost",
             "se", "random_lost", "random_lost_high"]  # fmt: skip
    rate = pd.DataFrame(
        [("mark", 0, 8, 20, 0.1, 0.2)],
        columns=["role", "layer", "neurons", "permutations", "mean_highest", "threshold"],
    )
    return {
        "neurons": pd.DataFrame(rows, columns=columns), "neuron_base_rate": rate,
        "knockouts": pd.DataFrame(knocked, columns=knock),
    }  # fmt: skip


def _walk():
    """Head L1H0 looks from the asked cause at the first sentence."""
    places = [(i, t, r, i // 4 if i < PREMISE else None) for i, (t, r) in enumerate(zip(TOKENS, ROLES, strict=True))]
    edges = [(1, 0, 9, 0, 0.6), (1, 0, 9, 2, 0.3), (1, 0, 12, 9, 0.9), (0, 0, 4, 2, 0.8)]
    margins = [
        (layer, role, m, True, 2) for layer, m in enumerate((-1.0, 0.5, 6.5)) for role in ("asked effect", "mark")
    ]
    tokens = pd.DataFrame(places, columns=["index", "token", "role", "sentence"]).astype({"sentence": "Int64"})
    return {
        "walk_tokens": tokens,
        "walk_attention": pd.DataFrame(edges, columns=["layer", "head", "query", "key", "attention"]),
        "walk_margins": pd.DataFrame(margins, columns=["layers", "role", "margin", "label", "hops"]),
    }


def _verdict(word):
    rows = []
    for part, name, nodes, value in (("sequential", "sequential-06", 6, 1.0), ("flipped", "flipped-06", 6, 0.9),
                                     ("branching", "branching-1.4-12", 12, 0.55)):  # fmt: skip
        first = 1.0 if part == "sequential" else 0.5
        rows.append((part, name, nodes, 80, 80, value, value - 0.06, min(1, value + 0.06), value, value - 0.06,
                     min(1, value + 0.06), first, first, 0.7, 0.5, 0.9, 0.8 if part != "sequential" else np.nan,
                     0.4, 20, 0.25, 0.11, 0.47))  # fmt: skip
    columns = ["part", "questions", "nodes", "n", "graphs", "accuracy", "low", "high", "hard", "hard_low", "hard_high",
               "mention", "mention_hard", "stated", "stated_hard", "roles", "roles_hard", "like_roles", "n_misled",
               "misled", "misled_low", "misled_high"]  # fmt: skip
    claims = [
        ("learned", "sequential-06", 1.0, 0.95, 1.0, 0.5, True),
        ("beats shortcuts", "flipped-06", 0.9, 0.84, 0.96, 0.8, True),
        ("beats shortcuts", "branching-1.4-12", 0.55, 0.49, 0.61, 0.8, False),
        ("beats shortcuts", "flipped-09", np.nan, np.nan, np.nan, 0.5, None),
        ("neurons of reachable are needed", "designed", 0.4, 0.36, 0.44, 0.05, True),
        ("neurons of mention order are needed", "designed", 0.0, -0.04, 0.04, 0.05, False),
        (word, "", np.nan, np.nan, np.nan, np.nan, None),
    ]
    made = pd.DataFrame(claims, columns=["claim", "questions", "value", "low", "high", "other", "holds"])
    return {
        "generalisation": pd.DataFrame(rows, columns=columns),
        "verdict": made.astype({"holds": "boolean"}),
    }


def total(mix, positions):
    """Sets that can tell, and those beaten, by the planted accuracies."""
    telling = [cell for cell in SETS if cell.family not in ("sequential", "names")]
    if positions == "learned":
        telling = [cell for cell in telling if cell.nodes < 50]
    beaten = [c for c in telling if answers(mix, positions, c) - 0.05 > max(shortcut(s, c) for s in SHORTCUTS)]
    return len(beaten), len(telling)
