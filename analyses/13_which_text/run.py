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

from arithcirc.influence.corpus import CorpusSpec, make_corpus
from arithcirc.influence.findings.run import run as find
from arithcirc.influence.study.fit import fit_factors
from arithcirc.influence.study.score import score
from arithcirc.influence.study.study import FIT, SCORE, open_study
from arithcirc.influence.train import CorpusRecipe, open_material, train_on_corpus
from arithcirc.influence.truth import check_recipe, choose_targets, judge_datamodels, judge_removals, open_trial
from arithcirc.models.plain import load_plain
from arithcirc.store import RunFolder, versions, write_json

HERE = Path(__file__).resolve().parent
RUNS = HERE.parents[1] / "runs" / "which_text"
SHARES = (("equation", 0.2), ("procedure", 0.25), ("code", 0.05), ("fact", 0.4), ("distractor", 0.1))
RECIPE = CorpusRecipe(
    name="which-text", layers=2, width=64, heads=2, mlp_width=256, steps=300, documents_per_step=16, warmup_steps=20,
    learning_rate=8e-3, measure_every=300, resume_every=300, keep=(300,),
)  # fmt: skip
DOCUMENTS, SUBSETS, REMOVED, SEEDS = 400, 50, 20, (1, 2, 3, 4, 5)


def score_corpus(seed: int, place: Path) -> tuple[RunFolder, Any]:
    """A corpus of this seed, a model trained on it, its influences and findings; and what retraining needs."""
    corpus = make_corpus(CorpusSpec(documents=DOCUMENTS, seed=seed, shares=SHARES), place / "corpus")
    material = open_material(corpus, recipe=RECIPE)
    trained = train_on_corpus(material, place / "model", device="cpu", threads=1)
    model = load_plain(str(trained.final), device="cpu")
    for sections, stage in ((FIT, fit_factors), (SCORE, score)):
        study = open_study(model, corpus.path, place / "study", sections=sections)
        stage(study)
    find(study.run)
    return study.run, material


def judge(seed: int, place: Path, *, workers: int = 1) -> dict[str, Any]:
    """Retrieval of facts, linear datamodelling and removal on one fresh corpus."""

    def progress(done: int, total: int) -> None:
        print(f"seed {seed}: {done} of {total} trainings, {time.process_time():.0f} s here", flush=True)

    run, material = score_corpus(seed, place)
    trial = open_trial(run.path, material, place / "trainings")
    told: dict[str, Any] = {"seed": seed, "recipe_differs_by": check_recipe(trial), "documents": len(trial.documents)}
    facts, reasoning = ((trial.queries["group"] == group).to_numpy() for group in ("factual", "reasoning"))
    right = trial.queries["correct"].to_numpy()
    told["answered_right"] = trial.queries.groupby("group", sort=False)["correct"].agg(["sum", "count"]).reset_index()
    for name in ("retrieval_groups", "retrieval_pairs"):
        told[name] = run.table(name).query("group == 'factual'")
    told["datamodels"] = judge_datamodels(trial, subsets=SUBSETS, workers=workers, progress=progress)[1]
    for name, wanted, kind, methods in (
        ("facts answered right", facts & right, "fact", ("ekfac", "dot", "bm25")),
        ("reasoning", reasoning, "procedure", ("ekfac",)),
    ):
        told[f"removal: {name}"], told[f"removals: {name}"] = judge_removals(
            trial, choose_targets(wanted, SEEDS), trial.of_kind(kind), k=REMOVED, name=name, methods=methods,
            workers=workers, progress=progress,
        )  # fmt: skip
    return told


def main() -> None:
    """Every seed asked for, one after the other."""
    for seed in map(int, sys.argv[1:] or ("101", "202")):
        told = judge(seed, RUNS / str(seed), workers=os.cpu_count() or 1)
        tables = {
            k: v if isinstance(v, int | float) else json.loads(v.to_json(orient="records")) for k, v in told.items()
        }
        machine = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": time.strftime("%Y-%m-%d")}
        write_json(HERE / f"results_{seed}.json", {"command": f"run.py {seed}"} | machine | versions() | plain | tables)
        print(
            "\n".join(f"\n{k}\n{v if isinstance(v, int | float) else v.round(3).to_string()}" for k, v in told.items())
        )


if __name__ == "__main__":
    main()
