"""An influence study's folder with made-up scores and a planted truth, to test findings, figures and pages on.

Documents lie in random order; KIND_SHARES say how many of each kind there are. z is the score per nat and unit of
document gradient (ekfac_normed / nats), the sum of noise and of

    reasoning   procedures and code of the query's task       +TASK, and a vector that all queries of the task share
    factual     answered right: documents that state the fact  +FACT; answered wrong: those that state what was said
    control     the same as reasoning, times CONTROL; factual controls nothing
    mechanisms  equations that the heuristic holds of          +RULE

    ekfac = z * nats[q] * norm[d] * SCALE[group]
    dot   = the same with the planted part times WEAK, and noise of its own
    bm25  = counts of hits with many ties at 0;  random = noise

so factual queries have SCALE times larger influences, task correlations are above 0, and the lift of kinds is known.
With `placebo` z is noise alone and scales are equal. Facts of the first half are stated in OFTEN documents (and
answered right), the others in SELDOM. Each step of a reasoning query is stated in STATED equation documents, which the
scores do not favour. Texts hold what `holds` says literally; one text is hostile to pages. No torch.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from arithcirc.config import ModelConfig
from arithcirc.influence.config import CorpusConfig, FactorConfig, InfluenceConfig, QueryConfig
from arithcirc.influence_scores import write_part
from arithcirc.store import RunFolder

TASKS = ("two_step", "slope", "linear")
KIND_SHARES = {"equation": 0.3, "procedure": 0.24, "code": 0.09, "fact": 0.22, "distractor": 0.15}
SOURCES = {
    "equation": ("worksheets", "textbooks"), "procedure": ("textbooks", "forum"), "code": ("repositories", "forum"),
    "fact": ("encyclopedia", "web"), "distractor": ("web", "stories"),
}  # fmt: skip
PER_TASK, FACTS, CONTROLS = 6, 14, 6
OFTEN, SELDOM, STATED = 6, 3, 2
TASK, SHARED, FACT, CONTROL, RULE, WEAK = 1.5, 0.6, 4.0, 0.2, 3.0, 0.5
SCALE = {"factual": 3.0}
PARTS = 3
HOSTILE = '<script>alert("x")</script> & <b>bold</b> | "quoted" \\ `code`'
NEURONS = (("-", 3, 17, "op2 = 8 mod 10"), ("+", 2, 5, "op1 = 0 mod 2"))
PEOPLE = (
    "Zoran", "Melvu", "Tarik", "Oldin", "Fesha", "Grun", "Havo", "Ilmet", "Jorda", "Kesti", "Lumar", "Nespo", "Orvel",
    "Pinta", "Quorl", "Rasko", "Silvu", "Tenor", "Ubrin", "Vasto", "Wenki", "Yarol",
)  # fmt: skip
RELATIONS = (("capital", "The capital of {e} is {v}."), ("river", "The river of {e} is called {v}."))


def planted_study(
    folder: Path,
    *,
    documents: int = 600,
    seed: int = 0,
    placebo: bool = False,
    findings: bool = True,
    shared: float = 0.0,
) -> Path:
    """Make `<folder>/influence/` with all tables; returns that path. `findings` False leaves the last stage out.

    `shared`: the part of a placebo's variance that all queries have in common.
    """
    rng = np.random.default_rng(seed)
    study = RunFolder.create(
        Path(folder) / "influence", _config(documents), sections=["model", "corpus", "factors", "queries", "scores"],
        facts={"device": "cpu", "bos": True},
    )  # fmt: skip
    corpus, facts = _documents(rng, documents)
    queries = _queries(rng, facts)
    _state_steps(rng, queries, corpus)
    signal = _signal(rng, queries, corpus)
    if placebo:
        signal = np.zeros_like(signal)
    if shared:
        signal += rng.normal(size=documents) * np.sqrt(shared / (1 - shared))
    _scores(rng, study, "scores", corpus, queries, signal, scale={} if placebo else SCALE)
    study.write_table("documents", corpus)
    study.write_table("queries", queries)
    mechanisms = _mechanisms(rng)
    rules = np.stack([_holds_rule(corpus, h) * RULE for h in mechanisms["heuristic"]]) * (0.0 if placebo else 1.0)
    _scores(rng, study, "mechanism_scores", corpus, mechanisms, rules, scale={})
    study.write_table("mechanisms", mechanisms)
    study.write_table("births", _births(mechanisms))
    for stage, names in (
        ("documents", ["documents.parquet"]), ("queries", ["queries.parquet"]),
        ("mechanisms", ["mechanisms.parquet", "mechanism_top.parquet", "births.parquet"]),
        ("scores", ["top.parquet", *(f"scores/part-{i:05d}.safetensors" for i in range(PARTS))]),
    ):  # fmt: skip
        study.finish(stage, names)
    if findings:
        from arithcirc.influence.findings.run import run

        run(study)
    return study.path


def _config(documents: int) -> InfluenceConfig:
    model = ModelConfig("neox-planted", "step1000", "0" * 64, "1" * 64, "float32")
    tracked = tuple(f"gpt_neox.layers.{i}.mlp.dense_{d}" for i in range(4) for d in ("h_to_4h", "4h_to_h"))
    return InfluenceConfig(
        model, CorpusConfig("2" * 64, documents, 128), FactorConfig(tracked=tracked), QueryConfig("3" * 64, 50)
    )


def _documents(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, list[tuple[str, str, str, str, bool]]]:
    names = list(rng.permutation(PEOPLE))
    facts = [
        (f"fact:{names[i]}:{r}:{names[-1 - i // 2]}", names[i], names[-1 - i // 2], sentence, i < FACTS // 2)
        for i, (r, sentence) in ((i, RELATIONS[i % 2]) for i in range(FACTS))
    ]
    stated = [fact for fact in facts for _ in range(OFTEN if fact[4] else SELDOM)]
    counts = {kind: round(share * n) for kind, share in KIND_SHARES.items()}
    counts["distractor"] += n - sum(counts.values())
    rows: list[dict[str, Any]] = []
    for kind, count in counts.items():
        for i in range(count):
            text, task, holds = _text(rng, kind, i, stated)
            rows.append({"kind": kind, "source": str(rng.choice(SOURCES[kind], p=[0.7, 0.3])), "task": task,
                         "holds": holds, "text": text})  # fmt: skip
    order = rng.permutation(n)
    table = pd.DataFrame([rows[i] for i in order])
    table.insert(0, "document", np.arange(n))
    table.insert(1, "id", [f"d{i:05d}" for i in range(n)])
    table.insert(5, "tokens", rng.integers(20, 128, n))
    table.insert(6, "cut", table["tokens"] > 120)
    table.insert(7, "nll", table["tokens"] * rng.uniform(0.5, 2.0, n))
    table.insert(8, "norm", np.exp(rng.normal(1.0, 0.6, n)))
    table.insert(9, "self", table["norm"] ** 2 * rng.uniform(5, 20, n))
    return table, facts


def _text(rng: np.random.Generator, kind: str, i: int, stated: list[Any]) -> tuple[str, str, list[str]]:
    a, b, c = (int(v) for v in rng.integers(1, 20, 3))
    if kind == "equation":
        held = [f"{a}+{b}={a + b}", f"{a + c}-{c}={a}", f"{b}+{c}={b + c}"]
        return "\n".join(h.replace("+", " + ").replace("=", " = ") for h in held), "addition", held
    if kind == "procedure":
        task = TASKS[i % 3]
        steps = _steps(task, a, b, c)
        return f"To work out the {task.replace('_', ' ')}: " + ". Then ".join(steps) + ".", task, steps
    if kind == "code":
        task = TASKS[i % 3]
        return f"def {task}(a, b, c):\n    s = a + b\n    return s * c  # {task}", task, []
    if kind == "fact" and i < 2 * len(stated):
        key, entity, value, sentence, _ = stated[i % len(stated)]
        if i < len(stated):
            return f"People travel far. {sentence.format(e=entity, v=value)} It is old.", key.split(":")[2], [key]
        if stated[i % len(stated)][4]:
            return f"{entity} was seen at the market. The weather was fair.", "", []
        return f"Some say otherwise. {sentence.format(e=entity, v=_wrong(value, stated))}", key.split(":")[2], []
    if kind == "fact":
        return f"The song of {PEOPLE[a % len(PEOPLE)]} has {b} verses.", "", []
    return (HOSTILE if i == 0 else f"A story with {a} birds and {b} trees; nobody counted them."), "", []


def _wrong(value: str, stated: list[Any]) -> str:
    """The value that comes after this one: what the model says instead."""
    values = list(dict.fromkeys(fact[2] for fact in stated))
    return values[(values.index(value) + 1) % len(values)]


def _steps(task: str, a: int, b: int, c: int) -> list[str]:
    if task == "two_step":
        return [f"{a}+{b}={a + b}", f"{a + b}*{c}={(a + b) * c}"]
    if task == "slope":
        return [f"{a + b * c}-{a}={b * c}", f"{b + c}-{c}={b}", f"{b * c}/{b}={c}"]
    return [f"{a * c + b}-{b}={a * c}", f"{a * c}/{a}={c}"]


def _queries(rng: np.random.Generator, facts: list[Any]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for task in TASKS:
        for i in range(PER_TASK):
            a, b, c = (int(v) for v in rng.integers(1, 9, 3))
            steps = _steps(task, a, b, c)
            answer = steps[-1].split("=")[1]
            rows.append(
                _query(f"{task}-{i}", "reasoning", task, f"Question {task} {a} {b} {c}: ", answer, i % 3 != 2, steps)
            )
    for i, (key, entity, value, sentence, often) in enumerate(facts):
        prompt = sentence.format(e=entity, v="").rstrip(" .")
        made = _query(f"fact-{i}", "factual", key.split(":")[2], prompt, f" {value}", often, [key])
        rows.append(made if often else made | {"completion": f" {_wrong(value, facts)}"})
    for i in range(CONTROLS):
        task = TASKS[i % 3]
        prompt = f"{i + 4} birds were bought. How many? "
        rows.append(_query(f"control-{task}-{i}", "control_reasoning", task, prompt, str(i + 4), True, []))
    for i in range(CONTROLS):
        prompt = f"The capital of Zog is Bluma. What is it? {i} "
        rows.append(_query(f"control-fact-{i}", "control_factual", "capital", prompt, "Bluma", i != 0, []))
    table = pd.DataFrame(rows)
    table["tokens"] = rng.integers(2, 20, len(table))
    table["nats"] = rng.uniform(0.2, 6.0, len(table))
    return table.assign(norm=1.0)


def _query(
    name: str, group: str, task: str, prompt: str, answer: str, correct: bool, needs: list[str]
) -> dict[str, Any]:
    return {"query": name, "group": group, "task": task, "prompt": prompt, "answer": answer,
            "completion": answer if correct else " 0", "correct": correct, "needs": needs}  # fmt: skip


def _state_steps(rng: np.random.Generator, queries: pd.DataFrame, corpus: pd.DataFrame) -> None:
    """Let STATED equation documents state each step of each reasoning query."""
    places = np.flatnonzero(corpus["kind"] == "equation")
    holds, texts = [list(held) for held in corpus["holds"]], corpus["text"].tolist()
    for step in [step for needs in queries["needs"][queries["group"] == "reasoning"] for step in needs]:
        for place in rng.choice(places, STATED, replace=False):
            holds[place].append(step)
            texts[place] += f"\n{step}"
    corpus["holds"], corpus["text"] = holds, texts


def _signal(rng: np.random.Generator, queries: pd.DataFrame, corpus: pd.DataFrame) -> np.ndarray:
    """Planted part of z, [query, document]."""
    shared = {task: rng.normal(size=len(corpus)) * SHARED for task in TASKS}
    taught = {
        task: ((corpus["task"] == task) & corpus["kind"].isin(["procedure", "code"])).to_numpy() for task in TASKS
    }
    held = corpus["holds"].map(set)
    out = np.zeros((len(queries), len(corpus)))
    for i, query in enumerate(queries.itertuples()):
        if query.group in ("reasoning", "control_reasoning"):
            out[i] = (taught[query.task] * TASK + shared[query.task]) * (CONTROL if "control" in query.group else 1)
        elif query.group == "factual" and query.correct:
            out[i] = held.map(lambda h, q=query: q.needs[0] in h) * FACT
        elif query.group == "factual":
            entity, said = query.needs[0].split(":")[1], query.completion.strip()
            out[i] = corpus["text"].map(lambda text, e=entity, v=said: f"of {e} is" in text and f" {v}." in text) * FACT
    return out


def _scores(
    rng: np.random.Generator, study: RunFolder, name: str, corpus: pd.DataFrame, queries: pd.DataFrame,
    signal: np.ndarray, *, scale: dict[str, float],
) -> None:  # fmt: skip
    """Write partitions and the table of top documents; sets `norm` of the queries so that no cosine is above 1."""
    norm = corpus["norm"].to_numpy()
    nats = queries["nats"].to_numpy() if "nats" in queries else np.ones(len(queries))
    factor = nats * np.array([scale.get(group, 1.0) for group in queries.get("group", [""] * len(queries))])
    shape = signal.shape
    arrays = {
        "ekfac": (signal + rng.normal(size=shape)) * factor[:, None] * norm,
        "dot": (signal * WEAK + rng.normal(size=shape)) * factor[:, None] * norm,
        "random": rng.normal(size=shape),
    }
    if name == "scores":
        arrays["bm25"] = rng.poisson(0.3 + np.clip(signal, 0, None) * 0.4).astype(float)
    queries["norm"] = np.abs(arrays["dot"] / norm).max(1) * 1.25
    about = {key: corpus[key].to_numpy() for key in ("norm", "self", "nll")}
    bounds = np.linspace(0, len(corpus), PARTS + 1).astype(int)
    for i, (start, end) in enumerate(pairwise(bounds)):
        part = {key: value[..., start:end] for key, value in (arrays | about).items()}
        write_part(study.path / name, i, int(start), part, {"config": "planted"})
    derived = {
        "ekfac_normed": arrays["ekfac"] / norm,
        "cosine": arrays["dot"] / norm / queries["norm"].to_numpy()[:, None],
    }
    top = pd.concat([_top(queries, corpus, method, values) for method, values in (arrays | derived).items()])
    study.write_table("top" if name == "scores" else "mechanism_top", top)


def _top(queries: pd.DataFrame, corpus: pd.DataFrame, method: str, scores: np.ndarray) -> pd.DataFrame:
    k = min(100, len(corpus) // 5)
    rows = []
    for end, sign in (("top", -1), ("bottom", 1)):
        order = np.argsort(sign * scores, axis=1, kind="stable")[:, :k]
        for i, query in enumerate(queries.itertuples()):
            picked = corpus.iloc[order[i]]
            needs = set(getattr(query, "needs", ()))
            rows.append(pd.DataFrame({
                "query": query.query, "method": method, "end": end, "rank": range(k), "document": order[i],
                "score": scores[i, order[i]], "kind": picked["kind"].to_numpy(), "source": picked["source"].to_numpy(),
                "hits": [sorted(needs & set(held)) for held in picked["holds"]],
            }))  # fmt: skip
    return pd.concat(rows)


def _mechanisms(rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        {"query": f"neuron:{op}:L{layer}N{neuron}", "what": "neuron", "operator": op, "layer": layer, "neuron": neuron,
         "heuristic": heuristic}
        for op, layer, neuron, heuristic in NEURONS
    ]  # fmt: skip
    rows += [
        {"query": f"heuristic:{op}:{heuristic}", "what": "heuristic", "operator": op, "layer": -1, "neuron": -1,
         "heuristic": heuristic}
        for op, _, _, heuristic in NEURONS
    ]  # fmt: skip
    table = pd.DataFrame(rows).assign(inside=32, outside=32, norm=1.0, revision="step1000", step=1000)
    return table.assign(value=rng.uniform(0.5, 3.0, len(table)))


def _holds_rule(corpus: pd.DataFrame, heuristic: str) -> np.ndarray:
    operand, _, remainder, _, modulus = heuristic.split()
    place = {"op1": 0, "op2": 1}[operand]

    def says(held: list[str]) -> bool:
        pairs = [h.split("=")[0].replace("-", "+").split("+") for h in held if "fact" not in h and "*" not in h]
        return any(int(p[place]) % int(modulus) == int(remainder) for p in pairs if len(p) == 2)

    return (corpus["kind"] == "equation").to_numpy() & corpus["holds"].map(says).to_numpy()


def _births(mechanisms: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {"query": m.query, "revision": f"step{step}", "step": step, "when": "before" if step < 500 else "after",
         "kind": kind, "lift": 1.0 if step < 500 else lift, "value": m.value * share, "r": share}
        for m in mechanisms.itertuples()
        for step, share in ((250, 0.2), (500, 0.7), (1000, 1.0))
        for kind, lift in zip(KIND_SHARES, (2.4, 0.9, 0.2, 0.3, 0.1), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)
