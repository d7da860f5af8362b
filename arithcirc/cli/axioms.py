"""`arithcirc axioms`: teach a small transformer a causal axiom. Heavy imports stay inside the functions."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from arithcirc.cli import show, show_axioms, show_influence
from arithcirc.cli.axioms_data import data
from arithcirc.cli.interrupts import Interrupted, training_ctrl_c
from arithcirc.cli.options import COMMAND_LINE, DEFAULT_OUT
from arithcirc.cli.ranges import ends, listed, wholes

if TYPE_CHECKING:
    from arithcirc.axioms.recipe import AxiomRecipe
    from arithcirc.axioms.study.questions import Evaluation
    from arithcirc.axioms.study.study import Request, Study

app = App(
    name="axioms",
    help="Teach a small transformer a causal axiom, and test how far it generalises (arXiv 2407.07612).",
    help_format="plaintext",
)


app.command(data)


@Parameter(name="*")
@dataclass(frozen=True)
class RecipeOptions:
    """Which recipe, and where its models lie."""

    preset: Annotated[
        str, Parameter(help="small (minutes on a processor), paper (67M, for a large GPU), or a recipe.json.")
    ] = "small"
    steps: Annotated[int | None, Parameter(help="Number of steps instead of the recipe's.")] = None
    name_length: Annotated[
        str | None, Parameter(help="Characters of the nodes' names, a range (default: the recipe's).")
    ] = None
    out: Annotated[
        Path | None, Parameter(help="Models go to OUT/models/, a study to OUT/study/ (default: runs/axioms/<preset>).")
    ] = None
    device: Annotated[str, Parameter(help="auto, cpu or cuda.")] = "auto"
    plan_only: Annotated[bool, Parameter(negative="", help="Measure a few steps, say what it will cost, and stop.")] = (
        False
    )

    def recipe(self) -> "AxiomRecipe":
        """The recipe with the options that were given."""
        from arithcirc.axioms.recipe import load_axiom_recipe

        base = load_axiom_recipe(self.preset)
        base = base if self.steps is None else base.shortened(self.steps)
        lengths = self.lengths()
        return base if lengths is None else replace(base, name_lengths=lengths)

    def lengths(self) -> tuple[int, int] | None:
        """The range of names, where one is given."""
        return None if self.name_length is None else ends("--name-length", self.name_length)

    def folder(self) -> Path:
        """Where models and tables go: other names than the recipe's have a folder of their own."""
        from arithcirc.axioms.recipe import AXIOM_PRESETS

        base, lengths = self.recipe(), self.lengths()
        name = self.preset if self.preset in AXIOM_PRESETS else base.name
        name = name if lengths is None else f"{name}-names{lengths[0]}-{lengths[1]}"
        return self.out or DEFAULT_OUT / "axioms" / name

    def evaluation(self, questions: int, longest: int) -> "Evaluation":
        """The questions, with names as in training."""
        from arithcirc.axioms.study.questions import Evaluation

        base = self.recipe()
        return Evaluation(questions=questions, longest=longest, name_lengths=base.name_lengths, vocab=base.vocab)


_RECIPE = RecipeOptions()


@app.command
def train(
    *,
    mix: str = "TS2",
    positions: str = "none",
    seed: int | None = None,
    threads: int = 1,
    options: RecipeOptions = _RECIPE,
) -> None:
    """Train one model on chains, or resume a run that was stopped; a study finds it where it lies.

    Ctrl-C stops behind the step under way, where the same command goes on; a second Ctrl-C ends at once.

    On several GPUs: torchrun --nproc-per-node 8 -m arithcirc axioms train, or accelerate launch; a step is shared out.

    Parameters
    ----------
    mix
        Training set: TS1, TS2 or OCC.
    positions
        none, learned, sinusoidal or rotary.
    seed
        Seed of weights and examples (default: the recipe's).
    threads
        CPU threads; a study trains with one, and more round otherwise.
    """
    from arithcirc.axioms.mixes import find_mix
    from arithcirc.axioms.study.jobs import model_name, recipe_of, train_model
    from arithcirc.training.plan import resolve_device
    from arithcirc.training.processes import first_process

    base = options.recipe()
    recipe = recipe_of(base, find_mix(mix).name, positions, base.seed if seed is None else seed)
    folder, device = options.folder() / "models" / model_name(recipe), resolve_device(options.device)
    if not first_process():  # of several that train together; this one has nothing to say
        if not options.plan_only:
            with training_ctrl_c(folder):
                train_model(recipe, folder, device=options.device, threads=threads)
        return
    if options.plan_only:
        from arithcirc.axioms.study.plan import measure_rate

        show_axioms.training_plan(recipe, measure_rate(recipe, device=device), folder)
        return
    with training_ctrl_c(folder) as stop, show_influence.training(recipe.steps, show_axioms.exam) as report:
        done = train_model(recipe, folder, device=options.device, threads=threads, report=report, stop=stop)
    show_axioms.trained(done)


@app.command
def study(
    *,
    positions: str = "none,learned,sinusoidal,rotary",
    mixes: str = "TS2,TS1,OCC",
    seeds: str | None = None,
    questions: int = 500,
    longest: int = 50,
    reseeds: int = 1,
    workers: int | None = None,
    evaluate: Path | None = None,
    options: RecipeOptions = _RECIPE,
) -> None:
    """Train positions x mixes x seeds, ask all the same questions, and set them beside shortcuts and the paper.

    Models that are trained and asked are reused, so a study can grow. Interrupt at any moment; the same command
    goes on.

    Parameters
    ----------
    positions
        Kinds of positions, with commas.
    mixes
        Training sets, with commas.
    seeds
        Seeds with commas, or a range 0..2 (default: the recipe's).
    questions
        Questions of each evaluation set, an even number, each about a graph of its own.
    longest
        Largest graphs of the evaluation sets, in nodes.
    reseeds
        How often a training that has not learned its longest chains is repeated with another seed; both are kept.
    workers
        Trainings at once, one thread each (default: the number of cores; with a GPU one).
    evaluate
        Train nothing and ask this model: the folder of any model that learned axioms, or of a step.
    """
    from arithcirc.training.processes import check_alone

    check_alone("a study")
    asked = options.evaluation(questions, longest)
    if evaluate is not None:
        _evaluate(evaluate, asked, options)
        return
    from arithcirc.axioms.study.study import Request

    base = options.recipe()
    chosen = wholes("--seeds", str(base.seed) if seeds is None else seeds)
    request = Request(base, listed(mixes), listed(positions), chosen, asked, reseeds, options.device)
    _study(request, options.folder(), workers, plan_only=options.plan_only)


@app.command
def ask(folder: Path, *questions: str, device: str = "auto") -> None:
    """Ask a trained model questions of your own, beside the truth and what the shortcuts say.

    Parameters
    ----------
    folder
        Folder of a model that learned axioms, or of a step.
    questions
        Each a text of its own: 'A causes B. B causes C. Does A cause C?'
    device
        auto, cpu or cuda.
    """
    from arithcirc.axioms import asking
    from arithcirc.axioms.study.single import step_folder
    from arithcirc.axioms.text import parse
    from arithcirc.errors import RequestError
    from arithcirc.training.plan import resolve_device

    if not questions:
        raise RequestError("no question is given: write one, such as 'A causes B. B causes C. Does A cause C?'")
    asked = [parse(text) for text in questions]
    model = asking.open_model(step_folder(folder), device=resolve_device(device))
    show_axioms.answers(asked, asking.ask(model, asked), model.known)


@app.command
def report(folder: Path = DEFAULT_OUT / "axioms" / "small") -> None:
    """Write the report of a study, or of a model that was asked or opened by itself: is it a rule or a shortcut?

    Parameters
    ----------
    folder
        Folder of the study, with study/ and opening/ in it as far as there are any; or one of these folders.
    """
    from arithcirc.report.axioms import axioms_report
    from arithcirc.viz.axioms.study import without_manifest

    page = axioms_report(folder)
    for damaged in without_manifest(folder):
        said = f"{damaged} has tables but no manifest.json: it is damaged and not in the report, make it again"
        show.err.print(said, markup=False)
    show.out.print(f"report: {page}")


@app.command(name="open")
def open_model(
    folder: Path,
    *,
    against: Path | None = None,
    out: Path | None = None,
    questions: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Open a trained model: where, when and by what a question is answered, and whether that is a rule or a shortcut.

    About two minutes of one core for a model of the recipe small. Interrupt at any moment; the same command goes on.

    Parameters
    ----------
    folder
        Step folder of a model that learned axioms, or its model's folder for the last step.
    against
        Another one: opens both and compares them. One has no positions, the other has learned ones.
    out
        Where the tables go (default: opening/ beside models/, in it the model's name; with --against that folder).
    questions
        Questions of a set that accuracy is measured on, an even number (default: 160); time goes with it.
    seed
        Seed of the questions.
    device
        auto, cpu or cuda.
    """
    from arithcirc.axioms import asking
    from arithcirc.axioms.opening.api import QUESTIONS, compare, open_up
    from arithcirc.axioms.study.single import step_folder
    from arithcirc.store import RunFolder
    from arithcirc.training.plan import resolve_device

    number, where = questions or QUESTIONS, None if device == "auto" else device
    step = step_folder(folder)
    home = (step.resolve().parents[2] if step.resolve().parents[1].name == "models" else step) / "opening"
    asked: tuple[Path, ...] = (step,) if against is None else _compared(step, step_folder(against))
    for model in asked:
        asking.open_model(model, device=resolve_device(device))  # a foreign one is refused before the bar
    with show_axioms.opening() as tell:
        if against is None:
            target = out or home / step.resolve().parent.name
            run = open_up(step, target, questions=number, seed=seed, device=where, progress=tell)
            runs = [run]
        else:
            target = out or home
            run = compare(asked[0], asked[1], target, questions=number, seed=seed, device=where, progress=tell)
            runs = [RunFolder.open(target / name) for name in ("none", "learned")]
    for opened in runs:
        show_axioms.verdict(opened)
    show.out.print(f"opening: {run.path}")


def _compared(one: Path, other: Path) -> tuple[Path, Path]:
    """The model without positions and the one with learned ones, whichever was named first."""
    from arithcirc.errors import RequestError

    kinds = {_position_kind(step): step for step in (other, one)}
    if set(kinds) != {"none", "learned"}:
        raise RequestError(
            f"{one} has positions {_position_kind(one)!r} and {other} {_position_kind(other)!r}: --against compares a "
            "model without positions (none) with one of learned positions"
        )
    return kinds["none"], kinds["learned"]


def _position_kind(step: Path) -> str:
    """The kind of positions in a step folder's config; learned ones need no saying. Raises ModelError."""
    from arithcirc.errors import ModelError

    try:
        config = json.loads((step / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(f"{step} holds no readable config.json: give the folder of a trained axiom model") from None
    return str(config.get("position_kind", "learned")) if isinstance(config, dict) else "?"


def _study(request: "Request", out: Path, workers: int | None, *, plan_only: bool) -> None:
    """Plan, run, show."""
    from arithcirc.axioms.study.plan import make_plan
    from arithcirc.axioms.study.study import open_study, run_study
    from arithcirc.sweep.local import cores
    from arithcirc.sweep.lock import locked
    from arithcirc.training.plan import resolve_device

    device = resolve_device(request.device)
    number = (cores() if device == "cpu" else 1) if workers is None else workers
    with nullcontext() if plan_only else locked(out):
        opened: Study = open_study(request, out, facts={"command": COMMAND_LINE.get()}, write=not plan_only)
        show_axioms.plan(make_plan(opened, workers=number), str(out))
        if plan_only:
            return
        try:
            with show_influence.progress() as tell:
                run_study(opened, workers=number, tell=tell, notice=lambda text: show.err.print(text, markup=False))
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted: models that are trained and asked are kept, of a training under way the last of its "
                f"resume points, one every {request.recipe.resume_every:,} steps; the same command goes on there"
            ) from None
    show_axioms.results(opened.run)
    show.out.print(f"study: {opened.run.path}")


def _evaluate(folder: Path, asked: "Evaluation", options: RecipeOptions) -> None:
    """Ask one model everything."""
    from arithcirc.axioms.study.single import evaluate_folder

    try:
        with show_influence.progress() as tell:
            run = evaluate_folder(
                folder, options.out, evaluation=asked, name_lengths=options.lengths(), device=options.device,
                default_out=DEFAULT_OUT / "axioms" / "evaluated",
                progress=lambda done, all_: tell("questions", done, all_),
            )  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted: answers that are not complete are not kept, the same command asks again"
        ) from None
    show_axioms.results(run)
    show.out.print(f"tables: {run.path}")
