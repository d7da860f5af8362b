"""What the terminal shows of axioms: the plan of a study, training, accuracies beside shortcuts, and the bars."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from arithcirc.cli.show import duration, err, out, wide

if TYPE_CHECKING:
    from pandas import DataFrame

    from arithcirc.axioms.asking import Answers
    from arithcirc.axioms.graphs import Question
    from arithcirc.axioms.recipe import AxiomRecipe
    from arithcirc.axioms.study.plan import Rate, StudyPlan
    from arithcirc.store import RunFolder

_SHOWN: tuple[tuple[str, float | None, tuple[int, ...]], ...] = (
    ("sequential", None, (6, 7, 9, 11, 13, 15, 20, 50)),
    ("flipped", None, (6, 7, 9, 11, 15)),
    ("reversal", None, (3, 4, 5, 6)),
    ("shuffled", None, (4, 6, 9)),
    ("names", None, (3, 6, 9)),
    ("branching", 1.4, (5, 8, 10, 12)),
    ("branching", 2.0, (5, 8, 10, 12)),
)
"""Sets that fit on a terminal; the tables have all."""


def plan(planned: "StudyPlan", where: str) -> None:
    """The plan, before anything runs."""
    if not planned.left:
        err.print("Every model is trained and has been asked: nothing is left to run but the tables.")
        return
    table = Table(title=f"Plan for {where}", title_justify="left", box=None, pad_edge=False)
    for column in ("model", "steps", "questions", "time", ""):
        table.add_column(column, justify="left" if column in ("model", "") else "right")
    for model in planned.models:
        if model.done:
            table.add_row(model.name, "", "", "", "finished before")
        else:
            steps = f"{model.steps:,}" if model.steps else "trained"
            table.add_row(model.name, steps, f"{planned.questions:,}", f"about {duration(model.seconds)}", "")
    wide(table, err)
    rates = ", ".join(f"{1000 * rate.step:.0f} ms a step {kind}" for kind, rate in planned.rates.items())
    err.print(
        f"In all about {duration(planned.seconds)} with {planned.workers} worker(s) of one thread ({rates}, measured "
        "here); a training that fails is repeated with another seed. Interrupt at any moment; the same command goes on."
    )


def training_plan(recipe: "AxiomRecipe", rate: "Rate", folder: Path) -> None:
    """What one training will take."""
    out.print(
        f"{folder}: {recipe.steps:,} steps, {recipe.steps * recipe.questions_per_step:,} questions, "
        f"{rate.parameters:,} parameters, about {duration(recipe.steps * rate.step)} ({rate.step:.3f} s a step, "
        "measured on one thread)"
    )


def trained(done: Any) -> None:
    """Where the model is and what it can do at the end."""
    last = max(row.step for row in done.accuracies)
    out.print(f"trained in {duration(done.seconds)}: {exam([r for r in done.accuracies if r.step == last])}")
    out.print(f"model: {done.final}")


def exam(rows: Any) -> str:
    """`sequential-06 0.975  flipped-06 0.860 ...`: accuracy on each set; why, where all of it is zero."""
    said = "  ".join(f"{row.cell} {row.value:.3f}" for row in rows)
    unsaid = "  (its likeliest next token is neither Yes nor No yet)"
    return said if any(row.correct for row in rows) else said + unsaid


def results(run: "RunFolder") -> None:
    """Accuracies of every model beside the shortcuts, the paper's where they are known, then the bars."""
    cells = run.table("cells")
    published = run.table("published") if "published" in run.tables() else None
    for family, factor, nodes in _SHOWN:
        _family(cells, published, family, factor, nodes)
    if "models" in run.tables():
        for row in run.table("models").query("not counted").to_dict("records"):
            said = f"{row['model']} does not count: {row['learned']:.3f} right on its longest chains, seed changed"
            out.print(said, markup=False)
    if "bars" in run.tables():
        bars(run.table("bars"))


def _family(
    cells: "DataFrame", published: "DataFrame | None", family: str, factor: float | None, nodes: tuple[int, ...]
) -> None:
    """One family of graphs: a row a model, a column a size, accuracy and in brackets the hard one."""
    chosen = _rows(cells, family, factor)
    shown = [n for n in nodes if n in set(chosen["nodes"])]
    if not shown:
        return
    title = f"{family}{'' if factor is None else f' {factor:g}'}: accuracy by nodes (hard balanced accuracy)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("model", *map(str, shown)):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model, rows in chosen.groupby("model", sort=False):
        found = {int(r["nodes"]): _accuracy(r["accuracy"], r["hard"]) for r in rows.to_dict("records")}
        table.add_row(str(model), *(found.get(n, "") for n in shown))
    if published is not None:
        known = _rows(published[(published["task"] == "transitivity") & published["nodes"].notna()], family, factor)
        for model, rows in known.groupby("model", sort=False):
            values = dict(zip(rows["nodes"], rows["value"], strict=True))
            if set(values) & set(shown):
                table.add_row(f"published {model}", *(f"{values[n]:.2f}" if n in values else "" for n in shown))
    wide(table)


def _accuracy(value: float, hard: float) -> str:
    return f"{value:.3f}" + ("" if math.isnan(hard) else f" ({hard:.2f})")


def _rows(table: "DataFrame", family: str, factor: float | None) -> "DataFrame":
    same = table["factor"].isna() if factor is None else (table["factor"] == factor).fillna(value=False)
    return table[(table["family"] == family) & same]


def bars(table: "DataFrame") -> None:
    """What was expected, and whether it holds."""
    shown = Table(title="Bars (mean over seeds)", title_justify="left", box=None, pad_edge=False)
    for column in ("bar", "wanted", "measured", "seeds", "holds"):
        shown.add_column(column, justify="left" if column in ("bar", "holds") else "right")
    for row in table.to_dict("records"):
        known = not math.isnan(row["measured"])
        said = ("yes" if row["holds"] else "NO") if known else "not measured"
        each = f"{row['seeds_holding']} of {row['seeds']}" if known else ""
        measured = f"{row['measured']:.3f}" if known else ""
        shown.add_row(row["bar"], f"{row['sign']} {row['wanted']:.2f}", measured, each, said)
    wide(shown)
    if not table["demanded"].all():
        out.print("The bars were set for the recipe `small`; for this one they are only a measure.")


def answers(asked: "Sequence[Question]", given: "Answers", known: Mapping[str, int]) -> None:
    """Questions with what the model says, how far it prefers Yes, and what is true."""
    from arithcirc.axioms.shortcuts import SHORTCUTS
    from arithcirc.axioms.text import answer, write

    words = {number: word for word, number in known.items()}
    table = Table(box=None, pad_edge=False)
    for column in ("question", "model", "Yes - No (nats)", "truth", *SHORTCUTS):
        table.add_column(column, justify="right" if "nats" in column else "left")
    for one, said, margin in zip(asked, given.said.tolist(), given.margin.tolist(), strict=True):
        guesses = (answer(rule(one)) for rule in SHORTCUTS.values())
        truth = f"{answer(one.label)}, {one.hops} hop(s)" if one.label else answer(one.label)
        table.add_row(write(one), words[said], f"{margin:+.2f}", truth, *guesses)
    wide(table)


@contextmanager
def opening() -> Iterator[Callable[[str, int, int], None]]:
    """One bar that names the stage; of two models it starts again."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bars:
        task = bars.add_task("open", total=None)
        yield lambda stage, done, all_: bars.update(task, description=stage or "done", completed=done, total=all_)


def verdict(run: "RunFolder") -> None:
    """Rule or shortcut? The word, and the sets that it rests on."""
    from pandas import isna

    from arithcirc.axioms.opening.verdict import KEYS

    table, general = run.table("verdict"), run.table("generalisation").set_index("questions")
    shown = Table(title="Hard accuracy beside the shortcuts", title_justify="left", box=None, pad_edge=False)
    for column in ("questions", "hard", "95%", *KEYS.values(), "beaten"):
        shown.add_column(column, justify="left" if column in ("questions", "beaten") else "right")
    for row in table[table["claim"] == "beats shortcuts"].to_dict("records"):
        if math.isnan(row["value"]):
            shown.add_row(row["questions"], *[""] * (2 + len(KEYS)), "not asked: no positions")
            continue
        ends = f"{row['low']:.3f} to {row['high']:.3f}"
        others = (f"{general.loc[row['questions'], f'{key}_hard']:.3f}" for key in KEYS)
        beaten = "cannot tell: a shortcut does it" if isna(row["holds"]) else "yes" if row["holds"] else "NO"
        shown.add_row(row["questions"], f"{row['value']:.3f}", ends, *others, beaten)
    wide(shown)
    out.print(f"{run.path.name}: {table['claim'].iloc[-1]}")
