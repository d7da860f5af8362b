"""`arithcirc influence`: which training documents teach the answer. Heavy imports stay inside the functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from arithcirc.cli import influence_sweep, show, show_influence
from arithcirc.cli.influence_options import MechanismOptions, ScoreOptions, StudyOptions
from arithcirc.cli.interrupts import training_ctrl_c
from arithcirc.cli.options import COMMAND_LINE, DEFAULT_OUT, PlainOptions

if TYPE_CHECKING:
    from arithcirc.influence.study.study import Study
    from arithcirc.influence.train import CorpusRecipe
    from arithcirc.models.plain import PlainModel
    from arithcirc.store import RunFolder

app = App(
    name="influence",
    help=(
        "Which training documents teach the answer, or built a neuron's rule (EK-FAC influence functions).\n\n"
        "In this order: corpus, train, fit, score, report. Any Hugging Face model and any file of JSON lines will do "
        "in place of the first two."
    ),
    help_format="plaintext",
)
_PLAIN, _SCORE, _MECHANISMS = PlainOptions(), ScoreOptions(), MechanismOptions()


@app.command
def corpus(
    *,
    out: Path = DEFAULT_OUT / "corpus",
    documents: int = 4000,
    seed: int = 0,
    operands: str = "0..19",
    limit: int | None = None,
    max_tokens: int = 128,
    reasoning: int = 8,
    factual: int = 20,
    controls: int = 8,
) -> None:
    """Make a corpus whose truth is known: equations, worked procedures, code, facts, distractors, and queries.

    Parameters
    ----------
    out
        Folder of documents.jsonl, queries.jsonl, corpus.json and tokenizer/.
    documents
        Number of documents, up to 5000000.
    seed
        Seed of everything; equal options give equal bytes.
    operands
        Range of the equations' operands.
    limit
        Largest number of the vocabulary (default: what sums of two operands need, 99 at least).
    max_tokens
        Longest document.
    reasoning
        Queries of each of the three reasoning tasks.
    factual
        Factual queries, some of facts a model should get wrong.
    controls
        Control queries of each kind.
    """
    from arithcirc.influence.corpus import CorpusSpec, make_corpus
    from arithcirc.influence.corpus.folder import CORPUS

    spec = CorpusSpec(
        documents=documents, seed=seed, operands=operands, limit=limit, max_tokens=max_tokens,
        reasoning=reasoning, factual=factual, controls=controls,
    )  # fmt: skip
    if (out / CORPUS).is_file():
        made = make_corpus(spec, out)
        show.notice("corpus", "already there, nothing to make")
    else:
        with show_influence.counted("documents", documents) as add:
            made = make_corpus(spec, out, progress=add)
    show_influence.corpus(made.path, made.facts)


@app.command
def train(
    corpus: Path,
    *,
    out: Path = DEFAULT_OUT / "models" / "neox-corpus",
    recipe: str = "neox-corpus",
    tokenizer: Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Train a small GPT-NeoX on a corpus, with checkpoints, or resume a run that was stopped.

    Parameters
    ----------
    corpus
        Corpus folder, or a file of JSON lines with --tokenizer.
    out
        Folder of the checkpoints step<N>/, accuracies and the data card.
    recipe
        neox-corpus, small-corpus, or a recipe.json.
    tokenizer
        Folder of a Hugging Face tokenizer, for a corpus that has none.
    steps
        Number of steps instead of the recipe's.
    seed
        Seed of weights and order instead of the recipe's.
    device
        auto, cpu or cuda.
    threads
        CPU threads (default: as torch decides).
    """
    from arithcirc.influence.train import open_material, train_on_corpus

    material = open_material(corpus, recipe=_recipe(recipe, steps, seed), tokenizer=tokenizer)
    if material.cut:
        show.notice("documents", f"{material.cut:,} are longer than {material.recipe.max_tokens} tokens: truncated")
    with training_ctrl_c(out) as stop, show_influence.training(material.recipe.steps) as report:
        done = train_on_corpus(material, out, device=device, threads=threads, report=report, stop=stop)
    show_influence.trained(done)


def _recipe(name: str, steps: int | None, seed: int | None) -> "CorpusRecipe":
    """The recipe with the options that were given."""
    from dataclasses import replace

    from arithcirc.influence.train import load_text_recipe

    chosen = load_text_recipe(name)
    chosen = chosen if steps is None else chosen.shortened(steps)
    return chosen if seed is None else replace(chosen, seed=seed)


@app.command
def fit(model: str, *, study: StudyOptions, processes: int = 1, loading: PlainOptions = _PLAIN) -> None:
    """Fit the curvature (EK-FAC) of a model on a corpus; what is finished is reused.

    Parameters
    ----------
    model
        Hugging Face id or local folder.
    processes
        Processes that share the documents, each with a GPU of its own where there are several.
    """
    from arithcirc.influence.study.fit import encode_documents, fit_factors
    from arithcirc.influence.study.study import FIT, How

    opened = _open(model, study, loading, sections=FIT, how=How(study.batch_size, processes=processes))
    if _planned(opened, study, scoring=False):
        return
    with show_influence.progress() as report:
        opened.report = report
        encode_documents(opened)
        fit_factors(opened)
    show.out.print(f"factors: {opened.run.path}")


@app.command
def score(
    model: str,
    *,
    study: StudyOptions,
    options: ScoreOptions = _SCORE,
    mechanisms: MechanismOptions = _MECHANISMS,
    loading: PlainOptions = _PLAIN,
) -> None:
    """Score every document for every query, by EK-FAC and the baselines, from factors fitted before.

    Where the model was analysed, labelled neurons and heuristics are scored too: which documents built their rules?

    Queries are asked about the model's own greedy completions. Interrupt at any moment; the same command goes on.

    Parameters
    ----------
    model
        Hugging Face id or local folder.
    """
    from arithcirc.influence.study.score import score as run
    from arithcirc.influence.study.study import SCORE

    opened = _open(
        model, study, loading, sections=SCORE, how=options.how(study), queries=options.queries,
        replace_scores=options.replace,
        max_new_tokens=options.max_new_tokens, stop=options.stop, damping=options.damping, low_rank=options.low_rank,
    )  # fmt: skip
    if _planned(opened, study, scoring=True):
        return
    _wants_mechanisms(opened, mechanisms)
    with show_influence.progress() as report:
        opened.report = report
        finished = run(opened, partitions=options.chosen())
        asked = _mechanisms(opened, mechanisms, model, loading.revision) if finished else 0
    if finished:
        show_influence.scored(opened.run)
        if asked:
            show.out.print(f"mechanisms: {asked}")
    else:
        show.out.print("partitions written; once all are, the same command without --partitions makes the tables")


def _mechanisms(opened: "Study", options: MechanismOptions, model: str, revision: str | None) -> int:
    """Score the neurons and heuristics of the model's own run, if it is wanted; how many."""
    from arithcirc.errors import RequestError
    from arithcirc.store import RunFolder

    if not _wants_mechanisms(opened, options):
        return 0
    folder = opened.run.path.parent
    try:
        return _ask_mechanisms(opened, RunFolder.open(folder), options, model, revision)
    except RequestError as error:
        if _named(options):
            raise
        show.notice("mechanisms", f"left out: {error}")
        return 0


def _wants_mechanisms(opened: "Study", options: MechanismOptions) -> bool:
    """Whether mechanisms are to be scored. Raises RequestError where they are asked for and there are no labels."""
    from arithcirc.errors import RequestError
    from arithcirc.store import MANIFEST, RunFolder

    named = _named(options)
    if options.mechanisms is False:
        if named:
            raise RequestError(f"{named} and --no-mechanisms contradict each other: leave one out")
        return False
    folder = opened.run.path.parent
    labelled = (folder / MANIFEST).is_file() and "heuristics" in RunFolder.open(folder).tables()
    if named and not labelled:
        raise RequestError(
            f"{folder} has no labelled neurons, which {named} needs: run 'arithcirc analyze' on this model with this "
            f"--out first, or leave {named.split()[0]} out"
        )
    return labelled


def _named(options: MechanismOptions) -> str:
    """The option that asks for mechanisms, as it was typed; empty where none does."""
    if options.mechanism:
        return f"--mechanism {options.mechanism[0]!r}"
    return "--births" if options.births else "--mechanisms" if options.mechanisms else ""


def _ask_mechanisms(
    opened: "Study", analysed: "RunFolder", options: MechanismOptions, model: str, revision: str | None
) -> int:
    from arithcirc.errors import RequestError
    from arithcirc.heuristics.names import parse_heuristic
    from arithcirc.influence.mechanisms.births_stage import run_births
    from arithcirc.influence.mechanisms.run import Wanted, run
    from arithcirc.models.zoo import locate

    wanted = Wanted(options.neurons, options.heuristics, options.mechanism or None)
    found = run(opened, analysed, inside=lambda name, prompts: parse_heuristic(name).mask(prompts), wanted=wanted)
    if options.births:
        located = locate(model, revision)
        if not located.local:
            raise RequestError(f"--births needs the checkpoints of {model} in a local folder: download its revisions")
        run_births(
            opened, found, Path(located.source).parent, inside=lambda name, prompts: parse_heuristic(name).mask(prompts)
        )  # fmt: skip
    return len(found)


app.command(influence_sweep.sweep)


@app.command
def report(
    where: str,
    *,
    out: Path = DEFAULT_OUT,
    revision: str | None = None,
    form: Annotated[str, Parameter(name="--format", help="html or md (with PNG figures).")] = "html",
) -> None:
    """Compute the findings of a scored study and write its report.

    Parameters
    ----------
    where
        The model's folder or id, or the folder of its run or study.
    out
        Where the studies are, OUT/<model>/<revision>/influence.
    revision
        The model's revision (default: the last).
    form
        The report's format.
    """
    from arithcirc.influence.findings.run import run as findings
    from arithcirc.report.influence import influence_report
    from arithcirc.store import RunFolder

    folder = _study_of(where, out, revision)
    with show_influence.progress() as bars:
        findings(RunFolder.open(folder), progress=bars)
    show_influence.findings(RunFolder.open(folder))
    show.out.print(f"report: {influence_report(folder, form=form)}")


def _study_of(where: str, out: Path, revision: str | None) -> Path:
    """The study's folder, given itself, its run's folder, or the model. Raises RequestError where there is none."""
    from arithcirc.errors import RequestError
    from arithcirc.models.zoo import locate
    from arithcirc.store import MANIFEST

    given = Path(where)
    places = [given, given / "influence"]
    if not any((place / MANIFEST).is_file() and place.name == "influence" for place in places):
        found = locate(where, revision)
        places = [Path(out, found.name.replace("/", "--"), found.revision, "influence")]
    for place in places:
        if place.name == "influence" and (place / MANIFEST).is_file():
            return place
    raise RequestError(f"there is no study in {places[-1]}: run 'arithcirc influence fit' and 'score' first")


def _open(
    model: str,
    study: StudyOptions,
    loading: PlainOptions,
    *,
    sections: tuple[str, ...],
    how: Any,
    queries: Path | None = None,
    replace_scores: bool = False,
    **asked: Any,
) -> "Study":
    """Load the model and open its study."""
    options = study.asked(**asked)
    loaded = _load(model, loading)
    from arithcirc.influence.study.study import open_study

    opened = open_study(
        loaded, study.corpus, study.out, queries=queries, asked=options, how=how, sections=sections,
        replace_scores=replace_scores and not study.plan_only, write=not study.plan_only,
        facts={"command": COMMAND_LINE.get(), "loading": {k: v and str(v) for k, v in loading.loading().items()}},
    )  # fmt: skip
    opened.notice = show.notice
    return opened


def _load(model: str, loading: PlainOptions) -> "PlainModel":
    """The model, without hooks. What cannot be is refused before torch is imported."""
    from arithcirc.models.zoo import check_request

    check_request(model, revision=loading.revision, device=loading.device, dtype=loading.dtype)
    show.passing("loading ...")
    from arithcirc.models.load import set_threads
    from arithcirc.models.plain import load_plain

    set_threads(loading.threads)
    return load_plain(model, **loading.loading())


def _planned(opened: "Study", study: StudyOptions, *, scoring: bool) -> bool:
    """Show the plan of what is left; whether it is all that was asked for."""
    from arithcirc.influence.study.plan import make_plan

    info = opened.model.info
    last = "scores" if scoring else "factors"
    if not opened.run.finished(last):
        show_influence.plan(make_plan(opened, scoring=scoring), f"{info.name} ({info.revision}, {info.device})")
    elif study.plan_only:
        show.err.print("Every stage is finished: nothing is left to run.")
    return study.plan_only
