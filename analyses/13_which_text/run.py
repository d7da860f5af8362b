"""Is influence true? Fresh corpora, models trained on them, and trainings without the documents that were named.

`python analyses/13_which_text/run.py [SEED ...]` makes a corpus and a model per seed (101 and 202 unless said), scores
its documents, and trains about 85 times more: ten minutes of processor time a seed. Everything lies in
runs/which_text/SEED; a stopped run goes on where it was. Writes results_SEED.json beside this file.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from arithcirc.influence.corpus import CorpusSpec
from arithcirc.influence.train import CorpusRecipe
from arithcirc.influence.truth import (
    check_recipe,
    choose_targets,
    fresh_study,
    judge_datamodels,
    judge_removals,
    open_trial,
)
from arithcirc.store import versions, write_json

HERE = Path(__file__).resolve().parent
RUNS = HERE.parents[1] / "runs" / "which_text"
SHARES = (("equation", 0.2), ("procedure", 0.25), ("code", 0.05), ("fact", 0.4), ("distractor", 0.1))
RECIPE = CorpusRecipe(
    name="which-text", layers=2, width=64, heads=2, mlp_width=256, steps=300, documents_per_step=16, warmup_steps=20,
    learning_rate=8e-3, measure_every=300, resume_every=300, keep=(300,),
)  # fmt: skip
DOCUMENTS, SUBSETS, REMOVED, SEEDS = 400, 50, 20, (1, 2, 3, 4, 5)
REMOVALS = (("facts answered right", "fact", ("ekfac", "dot", "bm25")), ("reasoning", "procedure", ("ekfac",)))


def judge(seed: int, place: Path, *, workers: int = 1) -> dict[str, Any]:
    """Retrieval of facts, linear datamodelling and removal on one fresh corpus."""

    def progress(done: int, total: int) -> None:
        print(f"seed {seed}: {done} of {total} trainings, {time.process_time():.0f} s here", flush=True)

    run, material = fresh_study(CorpusSpec(documents=DOCUMENTS, seed=seed, shares=SHARES), RECIPE, place)
    trial = open_trial(run.path, material.texts, material.recipe, place / "trainings")
    told: dict[str, Any] = {"seed": seed, "recipe_differs_by": check_recipe(trial), "documents": len(trial.documents)}
    told["answered_right"] = trial.queries.groupby("group", sort=False)["correct"].agg(["sum", "count"]).reset_index()
    for name in ("retrieval_groups", "retrieval_pairs"):
        told[name] = run.table(name).query("group == 'factual'")
    told["datamodels"] = judge_datamodels(trial, subsets=SUBSETS, workers=workers, progress=progress)[1]
    wanted = {
        "facts answered right": (trial.queries["group"] == "factual").to_numpy() & trial.queries["correct"].to_numpy(),
        "reasoning": (trial.queries["group"] == "reasoning").to_numpy(),
    }
    for name, kind, methods in REMOVALS:
        told[f"removal: {name}"], told[f"removals: {name}"] = judge_removals(
            trial, choose_targets(wanted[name], SEEDS), trial.of_kind(kind), k=REMOVED, name=name, methods=methods,
            workers=workers, progress=progress,
        )  # fmt: skip
    return told


def main() -> None:
    """Every seed asked for, one after the other."""
    for seed in map(int, sys.argv[1:] or ("101", "202")):
        told = judge(seed, RUNS / str(seed), workers=os.cpu_count() or 1)
        plain = {k: v for k, v in told.items() if isinstance(v, int | float)}
        tables = {k: json.loads(v.to_json(orient="records")) for k, v in told.items() if k not in plain}
        machine = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": time.strftime("%Y-%m-%d")}
        write_json(HERE / f"results_{seed}.json", {"command": f"run.py {seed}"} | machine | versions() | plain | tables)
        print(plain, *(f"{k}\n{told[k].round(3).to_string()}" for k in tables), sep="\n\n")


if __name__ == "__main__":
    main()
