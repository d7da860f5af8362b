"""Prompts that checkpoints share: those of the reference, in one fixed order, each with one fixed counterfactual.

The reference writes the table `shared_prompts`: the prompts of its own run first, so that its own run is its shared run
too, then others that it answers correctly, with as many distinct answers as possible, each with a counterfactual from
the pool of all operators; half are to discover, half to evaluate. A checkpoint takes, of each half, the first ones that
it answers correctly itself. Its prompts are then a part of the reference's, never others, and a weak checkpoint has
fewer. What such a set does not show: how a checkpoint does what the reference cannot do.

Stage `answers` says what a checkpoint answers to every legal prompt, where no later stage does.
"""

import pandas as pd

from arithcirc.arithmetic.operators import Prompts
from arithcirc.arithmetic.pairs import Counterfactual, Pairs, counterfactuals, legal_pool, select_distinct
from arithcirc.catalogue import TaskFiles
from arithcirc.components import Position
from arithcirc.measure.answers import predictions
from arithcirc.measure.maps import activation_maps
from arithcirc.pipeline.heuristic_stages import answers_of
from arithcirc.pipeline.job import Job
from arithcirc.pipeline.prompt_stage import legal_by_operator, load_pairs, pair_rows, rows_of, used_operators
from arithcirc.pipeline.stage import Cost, Stage
from arithcirc.store import write_atomic
from arithcirc.sweep.given import SHARED_PROMPTS, Given

LISTED = 1_000
"""Prompts in the reference's list."""
FEWEST = 2
"""Prompts that a set needs, or there is no shared run."""
SETS = ("discover", "evaluate")


# -- answers to all legal prompts --------------------------------------------------------------------------------------


def answers_stage(job: Job) -> list[str]:
    """Table `answers`: what the model says to every legal prompt."""
    legal = [prompts for prompts in legal_by_operator(job).values() if len(prompts)]
    advance = job.counter("answers", sum(len(prompts) for prompts in legal))
    columns = ["operator", "op1", "op2", "answer", "given", "correct"]
    frames = []
    for prompts in legal:
        maps = activation_maps(job.model, job.encoder, prompts, (), batch_size=job.batch_size, progress=advance)
        frames.append(answers_of(job, maps))
    return [
        job.run.write_table(
            "answers", pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
        )
    ]


def count_answers(job: Job) -> Cost:
    """All legal prompts, of which only op2 and `=` are run."""
    rows = sum(len(prompts) for prompts in legal_by_operator(job).values())
    tail = (job.encoder.length - job.encoder.index(Position.OP2)) / job.encoder.length
    return Cost(rows, rows * tail)


ANSWERS = Stage("answers", ("model", "prompts"), (), (), answers_stage, count_answers, like=("heuristics",))


# -- the reference's list ----------------------------------------------------------------------------------------------


def list_prompts(job: Job) -> list[str]:
    """Table `shared_prompts`: as the table `prompts`, and a pairs file at once."""
    prompts, answers = job.run.table("prompts"), job.run.table("answers")
    (symbol,) = used_operators(prompts)
    own = {name: load_pairs(rows_of(prompts, symbol, name)) for name in SETS}
    more = _more(job, answers, own)
    frames = []
    for name in SETS:
        both = [pair_rows(pairs, name, Counterfactual.ANY, 0) for pairs in (own[name], more[name])]
        frames.append(pd.concat(both, ignore_index=True).head(max(LISTED // 2, len(own[name]))))
    return [job.run.write_table(SHARED_PROMPTS, pd.concat(frames, ignore_index=True))]


def _more(job: Job, answers: pd.DataFrame, own: dict[str, Pairs]) -> dict[str, Pairs]:
    """Other prompts answered correctly, dealt to the two sets in turn, with counterfactuals."""
    (op,) = job.operators
    used = {
        pair for pairs in own.values() for pair in zip(pairs.clean.op1.tolist(), pairs.clean.op2.tolist(), strict=True)
    }
    right = answers[answers["correct"].astype(bool)]
    fresh = [pair not in used for pair in zip(right["op1"].tolist(), right["op2"].tolist(), strict=True)]
    left = Prompts(*(right.loc[fresh, c].to_numpy() for c in ("operator", "op1", "op2", "answer")))
    chosen = left[select_distinct(left, LISTED, job.rng("shared prompts", op.name))]
    drawn, found = counterfactuals(
        chosen, legal_pool(job.operands, job.encoder.limit), job.rng("shared counterfactuals", op.name)
    )
    pairs = Pairs(chosen[found], drawn[found])
    return {name: pairs[start::2] for start, name in enumerate(SETS)}


def count_list(_: Job) -> Cost:
    """Nothing runs."""
    return Cost(0, 0.0)


LIST = Stage(
    SHARED_PROMPTS, ("model", "prompts"), ("prompts", "heuristics", "answers"), ("prompts.parquet", "answers.parquet"),
    list_prompts, count_list, like=("prompts",),
)  # fmt: skip


# -- what a checkpoint takes of it -------------------------------------------------------------------------------------


def take_shared(job: Job, given: Given, files: TaskFiles) -> pd.DataFrame:
    """The first listed prompts of each set that this checkpoint answers correctly too, kept in the task's folder."""
    file = files.shared_pairs
    if not file.is_file():
        chosen = choose_shared(job, given.prompts)
        write_atomic(file, lambda part: chosen.to_parquet(part, index=False))
    taken: pd.DataFrame = pd.read_parquet(file)
    return taken


def choose_shared(job: Job, listed: pd.DataFrame) -> pd.DataFrame:
    """Rows of the list, in its order: as many of each set as a run uses, all answered correctly."""
    clean = load_pairs(listed).clean
    said = predictions(job.model, job.encoder, clean, batch_size=job.batch_size)
    right: pd.DataFrame = listed[said == job.encoder.answers(clean.answer)]
    wanted = dict(zip(SETS, (job.config.prompts.n_discover, job.config.prompts.n_evaluate), strict=True))
    parts: list[pd.DataFrame] = [right[right["set"] == name].head(n) for name, n in wanted.items()]
    return pd.concat(parts, ignore_index=True)


def shortage(taken: pd.DataFrame) -> str | None:
    """Why there is no shared run, if too few prompts are left of a set."""
    n = {name: int((taken["set"] == name).sum()) for name in SETS}
    if min(n.values()) >= FEWEST:
        return None
    return (
        f"no shared run: of the reference's prompts {n['discover']} to discover and {n['evaluate']} to evaluate are "
        f"answered correctly here, {FEWEST} of each are needed"
    )
