"""Where the shipped model does its arithmetic, and whether few heads suffice (paper: sections 3.1 and 3.2).

`python analyses/01_localize_circuit/run.py` analyses the shipped model into runs/ (about a minute on two
cores, reused when it is there), prints the numbers that README.md quotes and draws figures/01_localize_circuit/.
"""

from pathlib import Path

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "01_localize_circuit"
COMMAND = "python analyses/01_localize_circuit/run.py"


def carriers(run: ac.RunFolder) -> None:
    """Which part of the prompt each operator's strongest heads carry to `=`: mean logit difference, nats."""
    effects = run.table("effects")
    at_equals = effects[
        (effects["position"] == "equals") & (effects["kind"] == "head") & (effects["metric"] == "logit_diff")
    ]
    table = at_equals.pivot_table(index=["operator", "layer", "head"], columns="change", values="mean", sort=False)
    for operator, rows in table.groupby(level="operator", sort=False):
        print(f"\n{operator}: the five strongest heads at '=' (nats of logit difference, by what differs)")
        top = rows.sort_values("any", ascending=False).head(5).droplevel("operator")
        print(top[["any", "op1", "operator", "op2"]].round(2).to_string())


def mlps(run: ac.RunFolder) -> None:
    """Where MLPs matter: mean logit difference by layer and position, random counterfactual."""
    effects = run.table("effects")
    rows = effects[(effects["kind"] == "mlp") & (effects["metric"] == "logit_diff") & (effects["change"] == "any")]
    print("\nMLPs (nats of logit difference)")
    print(
        rows.pivot_table(index=["operator", "position"], columns="layer", values="mean", sort=False)
        .round(1)
        .to_string()
    )


def circuits(run: ac.RunFolder) -> None:
    """The chosen circuits, and random heads in the same number, on prompts they were not chosen on."""
    table = run.table("faithfulness")
    table = table[table["set"] == "evaluate"]
    chosen = table[table["chosen"]].set_index("operator")
    print("\ncircuits, judged on the evaluate prompts")
    columns = [
        "n_heads",
        "faithfulness",
        "faithfulness_sem",
        "faithfulness_ratio",
        "accuracy",
        "probability",
        "kl",
        "n",
    ]
    print(chosen[columns].round(3).to_string())
    rivals = table[table["circuit"] == "random"].merge(chosen[["n_heads"]].reset_index(), on=["operator", "n_heads"])
    print("\nrandom circuits of the same size: mean, best")
    print(rivals.groupby("operator", sort=False)["faithfulness"].agg(["mean", "max"]).round(3).to_string())


def main() -> None:
    """Analyse, print, draw."""
    run = ac.analyze(ac.load(), ROOT / "runs", upto="faithfulness")
    carriers(run)
    mlps(run)
    circuits(run)
    only = ("heads", "mlps", "head_carriers", "faithfulness")
    written = ac.write_figures(run, FIGURES, ("png",), command=COMMAND, only=only)
    print(f"\n{len(written)} figures: {FIGURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
