"""`arithcirc axioms data`: questions of three tasks on disk. Heavy imports stay inside the functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from arithcirc.cli import show, show_influence
from arithcirc.cli.options import DEFAULT_OUT
from arithcirc.cli.ranges import between, ends, listed

if TYPE_CHECKING:
    from arithcirc.axioms.data_spec import DataSpec
    from arithcirc.axioms.question_specs import CorrelationSpec, SeparationSpec

Files = Mapping[str, Mapping[str, Any]]


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """How many questions of what."""

    mixes: Annotated[str, Parameter(help='Training sets of transitivity: TS1, TS2 and OCC, with commas; "": none.')] = (
        "TS1,TS2,OCC"
    )
    train: Annotated[
        int | None,
        Parameter(
            help="Training examples of each mix and task, an even number; half are answered Yes (default: 157,500 of a "
            "mix, 175,000 of d-separation, 100,000 of correlation)."
        ),
    ] = None
    validation: Annotated[
        int | None,
        Parameter(help="Examples held out of each, an even number (default: 17,500, 25,000 and 10,000)."),
    ] = None
    evaluation: Annotated[
        int,
        Parameter(
            help="Questions of each evaluation set, an even number, each about a graph of its own but for "
            "correlation, whose sets have classes of graphs that its training lacks; 0: none."
        ),
    ] = 500
    families: Annotated[str, Parameter(help="Families of evaluation sets of transitivity, with commas.")] = (
        "sequential,flipped,reversal,shuffled,names,branching"
    )
    longest: Annotated[int, Parameter(help="Largest graphs of the evaluation sets, in nodes.")] = 50
    lengths: Annotated[str, Parameter(help="Nodes of the training chains, a range.")] = "3..6"
    variables: Annotated[str, Parameter(help="Variables of correlation, a range within 3..6.")] = "3..6"
    name_length: Annotated[str, Parameter(help="Characters of the nodes' names, a range.")] = "1..3"
    vocab: Annotated[int, Parameter(help="Tokens of transitivity: 70, or 69 without the letter y.")] = 70
    seed: Annotated[int, Parameter(help="Seed of everything; equal options give equal bytes.")] = 0

    def transitivity(self) -> "DataSpec":
        """The mixes and evaluation sets of transitivity. Raises RequestError."""
        from arithcirc.axioms.data_spec import DataSpec

        return DataSpec(mixes=listed(self.mixes), families=listed(self.families), **self._chains(), **self._common())

    def separation(self) -> "SeparationSpec":
        """The questions of d-separation. Raises RequestError."""
        from arithcirc.axioms.question_specs import SeparationSpec

        return SeparationSpec(**self._chains(), **self._common())

    def correlation(self) -> "CorrelationSpec":
        """The questions from correlation to causation. Raises RequestError."""
        from arithcirc.axioms.question_specs import CorrelationSpec

        return CorrelationSpec(variables=between("--variables", self.variables), **self._common())

    def _chains(self) -> dict[str, Any]:
        shortest, longest = ends("--name-length", self.name_length)
        return {
            "lengths": between("--lengths", self.lengths), "longest": self.longest,
            "shortest_name": shortest, "longest_name": longest,
        }  # fmt: skip

    def _common(self) -> dict[str, Any]:
        sizes = {"train": self.train, "validation": self.validation}
        given = {name: number for name, number in sizes.items() if number is not None}
        return {**given, "evaluation": self.evaluation, "vocab": self.vocab, "seed": self.seed}


_OPTIONS = DataOptions()


def data(
    *,
    out: Path = DEFAULT_OUT / "axioms" / "data",
    tasks: str = "transitivity",
    options: DataOptions = _OPTIONS,
) -> None:
    """Write questions about causal graphs: training sets and evaluation sets as JSON lines, and their tokenizer.

    Interrupt at any moment; the same command goes on.

    Parameters
    ----------
    out
        Folder of train/, validation/, evaluation/, tokenizer/ and dataset.json of transitivity; other tasks have
        folders of their own names in it.
    tasks
        What is asked, with commas: transitivity, d-separation, correlation (which causal
        relations follow from independences).
    """
    from arithcirc.axioms.dataset import make_data
    from arithcirc.axioms.question_sets import make_questions

    makers: dict[str, Callable[[], Any]] = {
        "transitivity": options.transitivity,
        "d-separation": options.separation,
        "correlation": options.correlation,
    }
    chosen = {task: makers[task]() for task in _known(tasks, makers)}
    made: dict[Path, Files] = {}
    with show_influence.progress() as report:
        for task, spec in chosen.items():
            if task == "transitivity":
                made[out] = make_data(spec, out, progress=report).files
            else:
                made[out / task] = make_questions(spec, out / task, progress=report)
    for folder, files in made.items():
        _show(files)
        show.out.print(f"data: {folder}")


def _known(tasks: str, makers: Mapping[str, object]) -> tuple[str, ...]:
    """The tasks in the order of `makers`. Raises RequestError for an unknown one, none, and one given twice."""
    from arithcirc.errors import RequestError

    given = listed(tasks)
    if unknown := [task for task in given if task not in makers]:
        raise RequestError(f"unknown task {unknown[0]!r}: use {', '.join(makers)}")
    if not given or len(set(given)) < len(given):
        raise RequestError(f"--tasks is {tasks!r}: name one or more of {', '.join(makers)}, each once")
    return tuple(task for task in makers if task in given)


def _show(files: Files) -> None:
    """What was written, what shortcuts score there, and how much of validation stands in train."""
    rows = {name: facts for name, facts in files.items() if "questions" in facts}
    shortcuts = list(dict.fromkeys(name for facts in rows.values() for name in facts.get("shortcuts", {})))
    table = Table(title="Questions, and accuracy of the shortcuts", title_justify="left", box=None, pad_edge=False)
    for column in ("file", "questions", *shortcuts, "also in train"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for name, facts in rows.items():
        scores = facts.get("shortcuts", {})
        found = [f"{scores[each]['accuracy']:.3f}" if each in scores else "" for each in shortcuts]
        repeated = f"{facts['in_train']['share']:.2%}" if "in_train" in facts else ""
        table.add_row(name, f"{facts['questions']:,}", *found, repeated)
    show.wide(table)
