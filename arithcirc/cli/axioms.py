"""`arithcirc axioms`: teach a small transformer a causal axiom. Heavy imports stay inside the functions."""

from pathlib import Path

from cyclopts import App
from rich.table import Table

from arithcirc.cli import show, show_influence
from arithcirc.cli.options import DEFAULT_OUT

app = App(
    name="axioms",
    help="Teach a small transformer a causal axiom, and test how far it generalises (arXiv 2407.07612).",
    help_format="plaintext",
)


@app.command
def data(
    *,
    out: Path = DEFAULT_OUT / "axioms" / "data",
    mixes: str = "TS1,TS2,OCC",
    train: int = 157_500,
    validation: int = 17_500,
    evaluation: int = 500,
    families: str = "sequential,flipped,reversal,shuffled,names,branching",
    longest: int = 50,
    lengths: str = "3..6",
    name_length: str = "1..3",
    vocab: int = 70,
    seed: int = 0,
) -> None:
    """Write questions of transitivity: training mixes and evaluation sets as JSON lines, and their tokenizer.

    Interrupt at any moment; the same command goes on.

    Parameters
    ----------
    out
        Folder of train/, validation/, evaluation/, tokenizer/ and dataset.json.
    mixes
        Training sets among TS1, TS2 and OCC, with commas; "" for none.
    train
        Training examples of each mix, an even number; half are answered Yes.
    validation
        Examples of each mix held out, an even number.
    evaluation
        Questions of each evaluation set, an even number, each about a graph of its own; 0 for none.
    families
        Families of evaluation sets, with commas.
    longest
        Largest graphs of the evaluation sets, in nodes.
    lengths
        Nodes of the training chains, a range.
    name_length
        Characters of the nodes' names, a range.
    vocab
        Tokens of the vocabulary: 70, or 69 without the letter y.
    seed
        Seed of everything; equal options give equal bytes.
    """
    from arithcirc.axioms.data_spec import DataSpec
    from arithcirc.axioms.dataset import make_data

    chains, names = _range("--lengths", lengths), _range("--name-length", name_length)
    spec = DataSpec(
        mixes=_listed(mixes), train=train, validation=validation, evaluation=evaluation, families=_listed(families),
        longest=longest, lengths=tuple(range(chains[0], chains[1] + 1)), shortest_name=names[0],
        longest_name=names[1], vocab=vocab, seed=seed,
    )  # fmt: skip
    with show_influence.progress() as report:
        made = make_data(spec, out, progress=report)
    _show(made.files)
    show.out.print(f"data: {made.path}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def _range(option: str, text: str) -> tuple[int, int]:
    """`3..6` or `4` -> its ends."""
    from arithcirc.errors import RequestError

    low, dots, high = (part.strip() for part in text.partition(".."))
    high = high if dots else low
    if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high)):
        raise RequestError(f"{option} is {text!r}: write a range LOW..HIGH, for example 3..6")
    return int(low), int(high)


def _show(files: dict[str, dict[str, object]]) -> None:
    """What was written, and what needs no transitivity there."""
    table = Table(title="Questions, and accuracy of the shortcuts", title_justify="left", box=None, pad_edge=False)
    for column in ("file", "questions", "mention order", "literal edge"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for name, facts in files.items():
        if "questions" in facts:
            scores = facts.get("shortcuts")
            found = [s["accuracy"] for s in scores.values()] if isinstance(scores, dict) else []
            table.add_row(name, f"{facts['questions']:,}", *(f"{value:.3f}" for value in found))
    show.wide(table)
