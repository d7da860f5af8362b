"""Options of `arithcirc influence`, with their help. Importing this must stay cheap: no torch, no plotly."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from arithcirc.cli.options import DEFAULT_OUT

if TYPE_CHECKING:
    from arithcirc.influence.study.study import Asked, How


@Parameter(name="*")
@dataclass(frozen=True)
class StudyOptions:
    """Which corpus and folder, and in what portions."""

    corpus: Annotated[Path, Parameter(help='Corpus folder, or a file of JSON lines {"text": ...}.')]
    out: Annotated[Path, Parameter(help="The study goes to OUT/<model>/<revision>/influence.")] = DEFAULT_OUT
    max_tokens: Annotated[
        int | None, Parameter(help="Longest document in tokens (default: 512, at most the model's context).")
    ] = None
    long: Annotated[str | None, Parameter(help="Longer documents: truncate, or chunk into documents of their own.")] = (
        None
    )
    layers: Annotated[str | None, Parameter(help="Layers whose gradients count: mlp (default), attention or all.")] = (
        None
    )
    fit_documents: Annotated[
        int | None, Parameter(help="Documents drawn for the curvature (default: all, 100000 of more).")
    ] = None
    seed: Annotated[int | None, Parameter(help="Seed of sampled labels and drawn documents (default: 0).")] = None
    batch_size: Annotated[int, Parameter(help="Documents in flight.")] = 32
    plan_only: Annotated[bool, Parameter(negative="", help="Print the plan and stop.")] = False

    def asked(self, **more: Any) -> "Asked":
        """The options that decide numbers."""
        from arithcirc.influence.study.study import Asked

        return Asked(
            max_tokens=self.max_tokens,
            long=self.long,
            layers=self.layers,
            fit_documents=self.fit_documents,
            seed=self.seed,
            **more,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class ScoreOptions:
    """Which queries, and how they are scored."""

    queries: Annotated[
        Path | None, Parameter(help='JSON lines {"prompt": ..., "answer": ...} (default: the corpus folder\'s).')
    ] = None
    max_new_tokens: Annotated[int | None, Parameter(help="Longest completion in tokens (default: 48).")] = None
    stop: Annotated[
        str | None, Parameter(help="Completions end before this text and the end token (default: a line break).")
    ] = None
    damping: Annotated[
        float | None, Parameter(help="Added to every eigenvalue (default: 0.1 x each layer's mean).")
    ] = None
    low_rank: Annotated[
        int | None, Parameter(help="Keep query gradients at this rank (default: exact; saves memory).")
    ] = None
    query_batch_size: Annotated[int, Parameter(help="Queries in flight.")] = 32
    partition: Annotated[int, Parameter(help="Documents scored and written together.")] = 4096
    partitions: Annotated[
        str | None, Parameter(help="Score these partitions only, as 0..3, and leave the rest to others.")
    ] = None
    replace: Annotated[
        bool, Parameter(negative="", help="Drop what was scored for other queries or options; factors stay.")
    ] = False

    def how(self, study: StudyOptions) -> "How":
        """The options that change no number."""
        from arithcirc.influence.study.study import How

        return How(study.batch_size, self.query_batch_size, self.partition)

    def chosen(self) -> "range | None":
        """The partitions asked for. Raises RequestError for what is no range."""
        from arithcirc.errors import RequestError

        if self.partitions is None:
            return None
        low, dots, high = self.partitions.partition("..")
        last = high if dots else low
        if not (low.isdigit() and last.isdigit() and int(low) <= int(last)):
            raise RequestError(f"--partitions {self.partitions!r} is no range: write 0..3 for the first four, or 5")
        return range(int(low), int(last) + 1)


@Parameter(name="*")
@dataclass(frozen=True)
class MechanismOptions:
    """Which neurons and heuristics of the model's own run are asked about, beside the queries."""

    mechanisms: Annotated[
        bool | None,
        Parameter(help="Ask which documents built labelled neurons (default: where the model's run has any)."),
    ] = None
    neurons: Annotated[
        int, Parameter(help="Labelled neurons, the strongest of each family in turn; scored ones stay.")
    ] = 12
    heuristics: Annotated[int, Parameter(help="Heuristics, each with all its neurons.")] = 6
    mechanism: Annotated[
        tuple[str, ...],
        Parameter(help="Only this one, as 'neuron:+:L1N20' or 'heuristic:+:op2 = 8 mod 10'; repeat. Scored ones stay."),
    ] = ()
    births: Annotated[
        bool, Parameter(negative="", help="Also at the checkpoints before and after each was born; fits factors there.")
    ] = False
