"""Code documents: the procedures as small functions, some with a call and its working in a comment."""

from arithcirc.influence.corpus.dice import Dice
from arithcirc.influence.corpus.problems import Problem

FUNCTIONS = {
    "two_step": (
        "def {f}(a, b, c):\n\ttotal=a+b\n\treturn total*c",
        "def {f}(p, q, r):\n\treturn (p+q)*r",
        "def {f}(a, b, c):\n\tresult=a\n\tresult=result+b\n\tresult=result*c\n\treturn result",
    ),
    "slope": (
        "def {f}(a, b, c, d):\n\trise=d-b\n\trun=c-a\n\treturn rise/run",
        "def {f}(a, b, c, d):\n\treturn (d-b)/(c-a)",
        "def {f}(p, q):\n\ta, b=p\n\tc, d=q\n\tif a==c:\n\t\traise ZeroDivisionError\n\treturn (d-b)/(c-a)",
    ),
    "linear": (
        "def {f}(a, b, c):\n\trest=c-b\n\treturn rest/a",
        "def {f}(a, b, c):\n\treturn (c-b)/a",
        "def {f}(a, b, c):\n\tx=0\n\twhile a*x+b<c:\n\t\tx=x+1\n\treturn x",
    ),
    "addition": (
        "def {f}(p, q):\n\tones=p%10+q%10\n\tcarry=ones//10\n\ttens=p//10+q//10+carry\n\treturn 10*tens+ones%10",
        "def {f}(p, q):\n\tcarry=0\n\tif p%10+q%10>9:\n\t\tcarry=1\n\treturn 10*(p//10+q//10+carry)+(p+q)%10",
    ),
    "subtraction": (
        "def {f}(p, q):\n\tones=p%10-q%10\n\ttens=p//10-q//10\n\tif ones<0:\n\t\tones=ones+10\n\t\ttens=tens-1\n"
        "\treturn 10*tens+ones",
        "def {f}(p, q):\n\tborrow=0\n\tif p%10<q%10:\n\t\tborrow=1\n\treturn 10*(p//10-q//10-borrow)+(p-q)%10",
    ),
}
NAMES = {
    "two_step": ("compute", "evaluate", "product"),
    "slope": ("slope", "gradient", "steepness"),
    "linear": ("solve", "unknown", "root"),
    "addition": ("add", "plus", "columns"),
    "subtraction": ("subtract", "minus", "difference"),
}
DOCUMENTATION = {
    "two_step": ("# add the bracket and multiply", "# sum first and product second"),
    "slope": ("# rise divided by run", "# slope of the line through two points"),
    "linear": ("# solve a*x+b=c for x", "# take b from c and divide by a"),
    "addition": ("# column addition with a carry", "# ones first and tens second"),
    "subtraction": ("# column subtraction with a borrow", "# borrow a ten when the ones are too few"),
}
HEADS: dict[str, tuple[str, ...]] = {
    "repository": ("", "", "import math", "from math import floor"),
    "forum": ("How do I write this as a function?", "Here is a function that works"),
    "textbook": ("Listing of a function", "The procedure as a program"),
}
CALL, RESULT = "print({f}({arguments}))", "# gives {result}"
_COMMENTED, _CALLED, _WORKED = 0.6, 0.7, 0.3


def lines(problem: Problem, dice: Dice) -> list[str]:
    """A function for the problem's task, and perhaps a call of it on the problem."""
    function = dice.pick(NAMES[problem.task])
    found = [dice.pick(DOCUMENTATION[problem.task])] if dice.chance(_COMMENTED) else []
    found += dice.pick(FUNCTIONS[problem.task]).format(f=function).split("\n")
    if dice.chance(_CALLED):
        arguments = ",".join(_arguments(problem))
        found += [CALL.format(f=function, arguments=arguments), RESULT.format(result=problem.result)]
        if dice.chance(_WORKED):
            found.append(f"# {'; '.join(problem.steps)}")
    return found


def _arguments(problem: Problem) -> list[str]:
    """The numbers of a question in their order: `(4+3)*2` -> 4, 3, 2."""
    return "".join(c if c.isdecimal() else " " for c in problem.asked).split()
