"""The query set of a corpus, with the paper's groups.

Reasoning: questions of three tasks that no document asks. Factual: some stated often, some so that a model should get
them wrong (facts.py). Controls: the same forms with the answer in the prompt.
"""

from itertools import count, islice

from arithcirc.errors import RequestError
from arithcirc.influence.corpus import distractors, facts, procedures
from arithcirc.influence.corpus.plan import Plan
from arithcirc.influence.corpus.problems import QUERIED
from arithcirc.influence.documents import Query


def make_queries(plan: Plan) -> tuple[Query, ...]:
    """All queries, by group. Raises RequestError when more are asked for than there are questions."""
    return (*_reasoning(plan), *_factual(plan), *_control_reasoning(plan), *_control_factual(plan))


def _reasoning(plan: Plan) -> list[Query]:
    wanted = plan.spec.reasoning
    found = []
    for task in QUERIED:
        problems = [plan.questions[task].kept(i) for i in range(min(wanted, len(plan.questions[task].held_out)))]
        if len(problems) < wanted:
            raise RequestError(
                f"{wanted} reasoning queries a task are too many: with operands {plan.spec.operands} {task} has "
                f"{len(problems)} questions to keep out of the corpus; give fewer queries or larger operands"
            )
        found += [
            Query(
                id=f"{task}-{i:02d}",
                prompt=procedures.asked(problem),
                answer=procedures.worked(problem),
                group="reasoning",
                task=task,
                needs=problem.steps,
            )
            for i, problem in enumerate(problems)
        ]
    return found


def _factual(plan: Plan) -> list[Query]:
    asked = [fact for fact in plan.facts.facts if fact.asked]
    order = {how: i for i, how in enumerate(("often", "reversed", "contradicted"))}
    asked.sort(key=lambda fact: (order[fact.how], fact.key))
    return [
        Query(
            id=f"{fact.how}-{i:02d}",
            prompt=fact.prompt,
            answer=fact.value,
            group="factual",
            task=fact.relation,
            needs=(fact.key,),
        )
        for i, fact in enumerate(asked)
    ]


def _control_reasoning(plan: Plan) -> list[Query]:
    """Look-alikes of questions that no document has, the three tasks in turn."""
    values = [v for v in range(2, plan.spec.largest + 1) if distractors.kept_for_queries(v)]
    found: dict[str, Query] = {}
    for i in range(plan.spec.controls):
        for task in QUERIED:
            held_out = plan.questions[task].held_out
            if i >= (len(held_out) if task == "two_step" else len(values)):
                continue
            problem = plan.questions[task].kept(len(held_out) - 1 - i % len(held_out))
            prompt, answer = distractors.alike(problem, values[i % len(values)])
            found.setdefault(prompt, Query(f"control-{task}-{i:02d}", prompt, answer, "control_reasoning", task))
    if len(found) < plan.spec.controls:
        raise RequestError(
            f"{plan.spec.controls} control queries are too many: with operands {plan.spec.operands} there are "
            f"{len(found)} for reasoning; give fewer or larger operands"
        )
    return list(islice(found.values(), plan.spec.controls))


def _control_factual(plan: Plan) -> list[Query]:
    """Facts of entities that no document has, stated in the prompt."""
    found = []
    for i, number in enumerate(islice(count(plan.notes * facts.PER_NOTE), plan.spec.controls)):
        line, fact = facts.note(number, plan.spec.seed)
        prompt, _, answer = line.rpartition(" ")
        found.append(Query(f"control-fact-{i:02d}", prompt, answer, "control_factual", fact.relation))
    return found
