"""Questions that are worked in steps: what is asked, the steps, the result.

Three tasks have queries (as in Ruis et al.): two-step arithmetic `(a+b)*c`, the slope through two points, and a linear
equation for x. Column addition and subtraction are taught beside them. All numbers are whole, all results above 0.
Every step of the three tasks is an equation that equation documents state too. A tenth of every task's questions (and
no fewer than there are queries) never occurs in a document: queries are drawn from these.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from arithcirc.influence.corpus.dice import shuffled
from arithcirc.influence.corpus.spec import CorpusSpec

QUERIED = ("two_step", "slope", "linear")
"""Tasks with queries."""
TASKS = (*QUERIED, "addition", "subtraction")
HELD_OUT = 0.1
_PURPOSE = 20


@dataclass(frozen=True)
class Problem:
    """One question. `asked` is the expression (`(4+3)*2`), `ending` what stands before the result."""

    task: str
    asked: str
    steps: tuple[str, ...]
    ending: str
    result: int


def two_step(a: int, b: int, c: int) -> Problem:
    """`(a+b)*c`."""
    return Problem(
        "two_step", f"({a}+{b})*{c}", (f"{a}+{b}={a + b}", f"{a + b}*{c}={(a + b) * c}"), "the answer is", (a + b) * c
    )


def slope(a: int, b: int, run: int, rise_per_run: int) -> Problem:
    """The slope of the line through (a, b) and (a + run, b + rise)."""
    c, d = a + run, b + run * rise_per_run
    steps = (f"{d}-{b}={d - b}", f"{c}-{a}={run}", f"{d - b}/{run}={rise_per_run}")
    return Problem("slope", f"({a},{b}) ({c},{d})", steps, "the slope is", rise_per_run)


def linear(a: int, x: int, b: int) -> Problem:
    """`a*x+b=c`, solved for x."""
    c = a * x + b
    return Problem("linear", f"{a}*x+{b}={c}", (f"{c}-{b}={c - b}", f"{c - b}/{a}={x}"), "x is", x)


def addition(p: int, q: int) -> Problem:
    """Column addition of two numbers of two digits."""
    ones, tens = p % 10 + q % 10, p // 10 + q // 10
    steps = [f"{p % 10}+{q % 10}={ones}"]
    if ones > 9:
        steps += [f"write {ones - 10} carry 1", f"{p // 10}+{q // 10}={tens}", f"{tens}+1={tens + 1}"]
    else:
        steps += [f"{p // 10}+{q // 10}={tens}"]
    return Problem("addition", f"{p}+{q}", (*steps, f"{p}+{q}={p + q}"), "the sum is", p + q)


def subtraction(p: int, q: int) -> Problem:
    """Column subtraction of two numbers of two digits, p > q."""
    tens = p // 10 - q // 10
    if p % 10 < q % 10:
        digits = ["borrow 1", f"{p % 10 + 10}-{q % 10}={p % 10 + 10 - q % 10}"]
        digits += [f"{p // 10}-1={p // 10 - 1}", f"{p // 10 - 1}-{q // 10}={tens - 1}"]
    else:
        digits = [f"{p % 10}-{q % 10}={p % 10 - q % 10}", f"{p // 10}-{q // 10}={tens}"]
    return Problem("subtraction", f"{p}-{q}", (*digits, f"{p}-{q}={p - q}"), "the difference is", p - q)


MAKERS: dict[str, Callable[..., Problem]] = {
    "two_step": two_step,
    "slope": slope,
    "linear": linear,
    "addition": addition,
    "subtraction": subtraction,
}


@dataclass(frozen=True)
class Questions:
    """A task's questions, shuffled, as arguments of its maker: those documents may use, and those kept for queries."""

    task: str
    taught: tuple[tuple[int, ...], ...]
    held_out: tuple[tuple[int, ...], ...]

    def problem(self, number: int) -> Problem:
        """Taught question `number`."""
        return MAKERS[self.task](*self.taught[number])

    def kept(self, number: int) -> Problem:
        """Held-out question `number`."""
        return MAKERS[self.task](*self.held_out[number])


def questions(spec: CorpusSpec, task: str) -> Questions:
    """All questions of a task whose steps are among the equations taught, split into taught and held out."""
    every = list(_arguments(spec, task))
    order = shuffled(spec.seed, _PURPOSE, TASKS.index(task), len(every)).tolist()
    kept = max(round(HELD_OUT * len(every)), spec.reasoning) if task in QUERIED else 0
    kept = min(kept, len(every) // 2)
    mixed = [every[i] for i in order]
    return Questions(task, tuple(mixed[kept:]), tuple(mixed[:kept]))


def _arguments(spec: CorpusSpec, task: str) -> Iterator[tuple[int, ...]]:
    top, limit = min(spec.high // 2, 20), spec.largest
    small, pair = range(1, top + 1), range(10, min(limit, 100))
    if task == "two_step":
        yield from ((a, b, c) for a in small for b in small for c in range(2, 6) if (a + b) * c <= limit)
    elif task == "slope":
        starts, runs, slopes = range(top + 1), range(1, 5), range(1, 6)
        every = ((a, b, r, s) for a in starts for b in starts for r in runs for s in slopes)
        # with a = b and slope 1 both differences are the same step
        yield from ((a, b, r, s) for a, b, r, s in every if b + r * s <= spec.high and not (a == b and s == 1))
    elif task == "linear":
        yield from ((a, x, b) for a in range(2, 6) for x in small for b in small if a * x + b <= spec.high)
    elif task == "addition":
        yield from ((p, q) for p in pair for q in pair if p + q <= min(limit, 99))
    else:
        yield from ((p, q) for p in pair for q in pair if p // 10 > q // 10)
