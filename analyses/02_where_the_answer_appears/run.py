"""Where a linear probe reads the answer, and from which layer on neurons count as heuristics (paper: appendix).

`python analyses/02_where_the_answer_appears/run.py` analyses the shipped model into runs/ up to the probes (two minutes
on two cores, reused when it is there), prints the numbers that README.md quotes and draws its figures.
"""

from pathlib import Path

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "02_where_the_answer_appears"
COMMAND = "python analyses/02_where_the_answer_appears/run.py"


def heat_maps(run: ac.RunFolder) -> None:
    """Held-out accuracy by operator, position and layer, with what the most frequent answer would score."""
    probes = run.table("probes")
    table = probes.pivot_table(index=["operator", "position"], columns="layer", values="accuracy", sort=False)
    print("held-out accuracy of the probe, by layer\n" + table.round(3).to_string())
    setting = probes.groupby("operator", sort=False)[["n", "classes", "base_rate"]].first()
    print("\n" + setting.round(3).to_string())


def gains(run: ac.RunFolder) -> None:
    """At `=`: how far each layer is from the base rate to the best layer, with its interval."""
    rows = run.table("probes").query("position == 'equals'")
    best = rows.groupby("operator")["accuracy"].transform("max")
    share = (rows["accuracy"] - rows["base_rate"]) / (best - rows["base_rate"])
    table = rows.assign(share=share)[["operator", "layer", "accuracy", "low", "high", "share"]]
    print("\nat =: accuracy with its 95% interval, and the share of the way from the base rate to the best layer")
    print(table.round(3).to_string(index=False))


def main() -> None:
    """Analyse, print, draw."""
    run = ac.analyze(ac.load(), ROOT / "runs", upto="probe")
    heat_maps(run)
    gains(run)
    print()
    for rule in run.table("first_layers").itertuples():
        print(f"{rule.operator}  layer {rule.layer}: {rule.rule}")
    only = ("probes", "probes_at_equals")
    written = ac.write_figures(run, FIGURES, ("png",), command=COMMAND, only=only, at_most=300_000)
    print(f"\n{len(written)} figures: {FIGURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
