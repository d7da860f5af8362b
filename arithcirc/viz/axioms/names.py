"""What positions, shortcuts, sets, roles and classes are called on the page, in which order, and their colours.

The words on the left are those of the study's tables. What a table holds beside them is shown by its own word.
"""

from typing import Any

from arithcirc.viz.theme import CHOSEN, GREY

OTHER = "other"
"""Mix and positions of a model that was trained without a recipe of ours."""
POSITIONS = {
    "none": ("no positions", "#2f7ebc", "circle"),
    "learned": ("learned", "#d9731a", "square"),
    "sinusoidal": ("sinusoidal", "#1b9e77", "triangle-up"),
    "rotary": ("rotary", "#b267a8", "diamond"),
    OTHER: ("model", CHOSEN, "star"),
}
"""Name, colour, marker."""
MIXES = {"TS2": "TS2", "TS1": "TS1", "OCC": "OCC", OTHER: "other"}
MIX_HINTS = {
    "TS2": "chains in order and chains with edges turned at random, about 3 to 1",
    "TS1": "the same, about 4 to 3",
    "OCC": "only causal chains, in order",
}
SHORTCUTS = {
    "mention order": ("mention order", "dash", "x-thin"),
    "literal edge": ("literal edge", "dot", "cross-thin"),
    "end roles": ("end roles", "dashdot", "asterisk"),
}
"""Name, dash, marker; grey, whatever is drawn."""
SHORTCUT_HINTS = {
    "mention order": "Yes if the cause is mentioned before the effect",
    "literal edge": "Yes if the edge that is asked about is stated",
    "end roles": "Yes if some sentence has the asked cause as its cause, and some the asked effect as its effect",
}
SHORTCUT_COLUMNS = {"mention order": "mention", "literal edge": "stated", "end roles": "roles"}
"""Column of each shortcut's accuracy in the table `generalisation`; its hard one has `_hard` behind."""
MEASURES = {"accuracy": "accuracy", "hard": "hard accuracy"}
COLUMNS = {"accuracy": ("accuracy", "low", "high"), "hard": ("hard", "hard_low", "hard_high")}
"""Value and interval of each measure in the table `cells`."""
SETS = {
    "sequential": "chains in order",
    "flipped": "edges turned",
    "reversal": "sentences last first",
    "shuffled": "shuffled and turned",
    "names": "long names",
    "branching 1.4": "branching, 1.4 edges a node",
    "branching 2": "branching, 2 edges a node",
}
ROLES = {
    "cause": "cause", "causes": "“causes”", "effect": "effect", "stop": "full stop", "last stop": "last full stop",
    "does": "“Does”", "asked cause": "asked cause", "verb": "“cause”", "asked effect": "asked effect", "mark": "“?”",
}  # fmt: skip
QUESTION_ROLES = ("does", "asked cause", "verb", "asked effect", "mark")
CLASSES = {
    "mention order": ("mention order", "#d9731a"),
    "edge stated": ("edge stated", "#c9a227"),
    "reachable": ("reachable", "#2f7ebc"),
    "none": ("none of them", GREY),
}
CIRCUITS = {
    "full": ("whole model", GREY, "line-ns-open"),
    "found": ("circuit", "#2f7ebc", "circle"),
    "without": ("all but the circuit", "#d9731a", "square"),
    "random": ("random, same size", GREY, "circle-open"),
}
VERDICTS = {
    "rule": ("a rule", "good"),
    "rule in part": ("a rule in part", "good"),
    "trained kind only": ("trained kind only", "plain"),
    "shortcut in part": ("a shortcut in part", "miss"),
    "shortcut": ("a shortcut", "miss"),
    "nothing learned": ("nothing learned", "plain"),
}
"""The word of the table `verdict`, for people, and its tag."""
TRAINED_KIND = {"TS2": "flipped", "TS1": "flipped", "OCC": None, OTHER: "flipped"}
"""The family a mix trains that shortcuts do not answer; None where it trains chains in order alone."""
VERDICT_TERMS = {
    "rule": "the shortcuts are beaten on every set that can tell: turned edges of trained length, and kinds of graphs "
    "that training had not",
    "rule in part": "on every set of the trained kind (turned edges of trained length), and on half of the others or "
    "more; of OCC, which never saw a turned edge, on half of all sets or more",
    "trained kind only": "on every set of the trained kind, and on fewer of the others",
    "shortcut in part": "on some set, but not on all of the trained kind; of OCC, on fewer than half of all sets",
    "shortcut": "on none",
    "nothing learned": "chains in order, of the longest trained length, are not answered above chance",
}
"""What each verdict means; the same of a study's models and of models that were opened."""


def position(name: str) -> str:
    """A kind of positions for people."""
    return POSITIONS[name][0] if name in POSITIONS else name.replace("_", " ")


def colour(name: str) -> str:
    """The fixed colour of a kind of positions; grey for a shortcut."""
    return POSITIONS[name][1] if name in POSITIONS else GREY


def symbol(name: str) -> str:
    """The marker of a kind of positions or of a shortcut."""
    return POSITIONS[name][2] if name in POSITIONS else SHORTCUTS[name][2] if name in SHORTCUTS else "diamond"


def set_name(family: str, factor: Any) -> str:
    """`("branching", 1.4)` -> `branching 1.4`; other families have no factor."""
    return family if factor is None or factor != factor else f"{family} {float(factor):g}"


def set_title(name: str) -> str:
    """A set for people."""
    return SETS.get(name, name.replace("_", " "))


def role(name: str, offset: Any = None) -> str:
    """A token's role for people; `offset` counts sentences from the one that differs."""
    said = ROLES.get(name, name)
    if offset is None or offset != offset:
        return said
    return said if int(offset) == 0 else f"{said}, {int(offset)} later"


def verdict(word: str) -> tuple[str, str]:
    """A verdict for people, and its tag."""
    return VERDICTS.get(word, (word, "plain"))
