"""Does a small transformer learn the axiom of transitivity, or a shortcut?

`make axioms` first (12 models trained and asked, two of them opened), then
`python analyses/15_rule_or_shortcut/run.py [FOLDER]`. Prints what README.md quotes and draws
figures/15_rule_or_shortcut/.
"""

import sys
from pathlib import Path

import pandas as pd

import arithcirc as ac
from arithcirc.store import RunFolder

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "15_rule_or_shortcut"
COMMAND = "python analyses/15_rule_or_shortcut/run.py"
LONG = (11, 13, 15)
DRAWN = {
    "study": ("axioms_length_TS2_accuracy", "axioms_overview_hard"),
    "opening/none": ("axioms_layers", "axioms_circuit", "axioms_patching_heads_TS2-none-s0-step1800_edge-turned"),
}


def shares(cells: pd.DataFrame, measure: str, family: str, nodes: tuple[int, ...], factor: float | None = None) -> None:
    """Print the mean over some sizes and all seeds: a row a mix, a column a kind of positions; then shortcuts."""
    same = cells["factor"].isna() if factor is None else cells["factor"].eq(factor).fillna(value=False)
    chosen = cells[cells["counted"] & (cells["family"] == family) & same & cells["nodes"].isin(nodes)]
    models, shortcuts = (chosen[chosen["kind"] == kind] for kind in ("model", "shortcut"))
    table = models.pivot_table(index="mix", columns="positions", values=measure, sort=False).round(3)
    print(f"\n{measure}, {family} {'' if factor is None else factor} {', '.join(map(str, nodes))}")
    print(table.to_string())
    print("shortcuts:", shortcuts.groupby("model")[measure].mean().round(3).to_dict())


def main(folder: Path) -> None:
    """Print the tables, then draw."""
    study = RunFolder.open(folder / "study")
    cells = study.table("cells")
    sets = (
        ("sequential", LONG, None),
        ("sequential", (6,), None),
        ("flipped", (6,), None),
        ("flipped", (15,), None),
        ("reversal", (6,), None),
        ("shuffled", (6,), None),
        ("branching", (8,), 1.4),
        ("branching", (12,), 1.4),
    )
    for family, nodes, factor in sets:
        for measure in ("accuracy", "hard"):
            shares(cells, measure, family, nodes, factor)
    hops = study.table("hops").query("model == 'TS2-none-s0'")
    places = hops["family"].eq("reversal") & hops["nodes"].eq(6)
    places |= hops["nodes"].eq(12) & hops["factor"].eq(1.4).fillna(value=False)
    columns = ["family", "nodes", "hops", "questions", "accuracy"]
    print("\nTS2 none by path length")
    print(hops.loc[places, columns].round(2).to_string(index=False))
    print("\nbars")
    print(study.table("bars")[["bar", "wanted", "measured", "seeds", "seeds_holding", "holds"]].to_string(index=False))
    for name in ("none", "learned"):
        opened = RunFolder.open(folder / "opening" / name)
        print(f"\n{name}: {opened.table('verdict')['claim'].iloc[-1]}")
        print(opened.table("generalisation")[["questions", "hard", "hard_low", "hard_high"]].round(2).to_string())
        needed = opened.table("layers_needed").pivot_table(
            index="distance", columns=["curve", "scope"], values="needed", sort=False
        )
        print(needed.to_string())
        drawn = opened.table("faithfulness").query("circuit == 'random' and questions == 'flipped-06'")["faithfulness"]
        print(f"random parts on flipped-06: mean {drawn.mean():.2f}, at most {drawn.max():.2f}")
        print(opened.table("generalisation")[["questions", "n_misled", "misled"]].round(2).to_string(index=False))
        faithful = opened.table("faithfulness").query("circuit == 'found'")
        columns = ["questions", "heads", "mlps", "faithfulness", "completeness", "accuracy"]
        print(faithful[columns].round(3).to_string(index=False))
        heads = opened.table("edge_heads").sort_values("excess").groupby("questions").tail(2)
        print(
            heads[["questions", "layer", "head", "query", "target", "attention", "base_rate", "effect"]]
            .round(2)
            .to_string()
        )
    for part, names in DRAWN.items():
        run = RunFolder.open(folder / part)
        ac.write_figures(run, FIGURES, ("png",), command=COMMAND, only=names, at_most=300_000)
    print(f"figures: {FIGURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "axioms" / "small")
