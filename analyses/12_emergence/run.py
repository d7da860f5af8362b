"""When did each heuristic appear? The shipped model's checkpoints, and the paper's analyses of training.

`python analyses/12_emergence/run.py` sweeps the shipped checkpoints into runs/sweep (a quarter of an hour on two cores,
reused when it is there), prints what README.md quotes and draws figures/12_emergence/.
"""

from pathlib import Path

import pandas as pd

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "12_emergence"
COMMAND = "python analyses/12_emergence/run.py"
QUERIES = {
    "accuracy and circuits": "select operator, step, accuracy_train, accuracy_held_out, base_rate, given_share, heads, "
    "faithfulness, circuit_accuracy, top, first_layer, important, labelled_significant, pairs_significant, n_prompts "
    "from steps where prompts = 'shared' order by operator, step",
    "(a) share of what the reference has": "select operator, step, what, shared, at_reference, share, expected, "
    "given_neurons from overlap where prompts = 'shared' and labels in ('', 'significant') "
    "order by operator, what, step",
    "(b) F with only some neurons, all heads": "select operator, step, neurons, avg(n_neurons) as size, "
    "avg(faithfulness) as F, avg(accuracy) as accuracy, min(n) as n from kept_faithfulness "
    "where prompts = 'shared' and labels = 'significant' and heads = 'all' "
    "group by operator, step, neurons order by operator, step, neurons",
    "(c) accuracy with 25 neurons per layer zeroed": "select operator, step, arm, neurons, n, accuracy, p from "
    "knockouts_by_prompt where prompts = 'shared' and labels = 'significant' and ablation = 'zero' and per_layer = 25 "
    "order by operator, step, arm",
    "births": "select operator, fate, count(*) as pairs, count(distinct heuristic) as heuristics from births "
    "where labels = 'significant' group by operator, fate order by operator, fate",
    "births by step": "select operator, birth, count(*) as pairs from births where labels = 'significant' and "
    "birth is not null group by operator, birth order by operator, birth",
    "jumps": 'select operator, "offset", change_in, change_out, difference, low, high, p, heuristics from jumps '
    "where heuristic = '(all)' and labels = 'significant' order by operator, \"offset\"",
    "cost": "select sum(seconds + load_seconds) as seconds, max(peak_bytes) / 1e6 as peak_mb, count(*) as tasks "
    "from tasks",
}


def main() -> None:
    """Sweep, print, draw."""
    sweep = ac.run_sweep(out=ROOT / "runs" / "sweep")
    for name, query in QUERIES.items():
        with pd.option_context("display.max_rows", None, "display.width", 200):
            print(f"\n{name}\n{sweep.sql(query).round(3).to_string(index=False)}")
    for row in sweep.table("verdict").to_dict("records"):
        print(f"{row['operator']} {row['question']}: {row['answer']}. {row['detail']}")
    written = ac.write_figures(sweep, FIGURES, ("png",), command=COMMAND, at_most=300_000)
    print(f"{len(written)} figures: {FIGURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
