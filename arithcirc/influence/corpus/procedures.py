"""Procedure documents: questions worked step by step, and now and then the rule in words.

The first way of asking and of working is the one queries use; the others say the same in other words.
"""

from arithcirc.influence.corpus.dice import Dice
from arithcirc.influence.corpus.problems import Problem

ASK = {
    "two_step": ("Compute {}:", "How do I compute {}?", "Example {}."),
    "slope": ("Slope of {}:", "What is the slope through {}?", "Points {}."),
    "linear": ("Solve {}:", "How do I solve {}?", "Equation {}."),
    "addition": ("Add {}:", "How do I add {}?", "Sum {}."),
    "subtraction": ("Subtract {}:", "How do I subtract {}?", "Difference {}."),
}
RULES = {
    "two_step": (
        "The bracket comes first and the product comes last",
        "Add the two numbers inside the bracket and multiply their sum by the third",
    ),
    "slope": (
        "The slope is the rise divided by the run",
        "Subtract the heights to find the rise and the other coordinates to find the run",
    ),
    "linear": (
        "Take the constant from both sides and divide by the factor of x",
        "To find x undo the sum first and the product second",
    ),
    "addition": (
        "Add the ones first and the tens second, and carry when the ones pass nine",
        "Write the last digit of a column and carry the rest to the left",
    ),
    "subtraction": (
        "Subtract the ones first and the tens second, and borrow when the ones are too few",
        "A borrowed ten makes the upper digit larger and the next column smaller",
    ),
}
HEADS: dict[str, tuple[str, ...]] = {
    "textbook": ("", "", "Worked examples", "Exercises with solutions"),
    "forum": ("", "Question from a pupil", "Thanks for the help, here is my work"),
    "web": ("", "Lesson notes", "Step by step"),
}
FIRST, THEN, STEP, AND, SO = "first", "then", "Step", "and", "so"
_PLAIN = 0.6
_SHARES = (("two_step", 0.27), ("slope", 0.27), ("linear", 0.26), ("addition", 0.1), ("subtraction", 0.1))


def choose_task(dice: Dice) -> str:
    """The task of a document."""
    return dice.weighted(_SHARES)


def asked(problem: Problem) -> str:
    """The question as queries write it, `Compute (4+3)*2:`."""
    return ASK[problem.task][0].format(problem.asked)


def worked(problem: Problem) -> str:
    """The steps and the result as queries expect them, `first 4+3=7, then 7*2=14, the answer is 14`."""
    first, *rest = problem.steps
    return ", ".join([f"{FIRST} {first}", *(f"{THEN} {step}" for step in rest), f"{problem.ending} {problem.result}"])


def lines(problem: Problem, dice: Dice) -> list[str]:
    """A question and its working, on one line or several."""
    if dice.chance(_PLAIN):
        return [f"{asked(problem)} {worked(problem)}"]
    question = dice.pick(ASK[problem.task]).format(problem.asked)
    if dice.chance(0.5):
        steps = [f"{STEP} {i}: {step}" for i, step in enumerate(problem.steps, 1)]
        return [question, *steps, f"{SO} {problem.ending} {problem.result}"]
    return [f"{question} {f' {AND} '.join(problem.steps)} {SO} {problem.ending} {problem.result}"]
