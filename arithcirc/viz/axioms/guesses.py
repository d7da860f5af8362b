"""What the shortcuts answer to the walked question, from its tokens: the same rules as those of the study's table."""

import pandas as pd

from arithcirc.viz.axioms import names

Edges = list[tuple[str, str]]


def guesses(tokens: pd.DataFrame) -> dict[str, bool]:
    """Yes or No of each shortcut by name; none where the tokens lack a part of the question.

    `tokens` are the rows of one question of the table `walk_tokens`; tokens of one name are put together.
    """
    rows = tokens.sort_values("index")
    said = {
        role: "".join(rows.loc[rows["role"] == role, "token"].astype(str)) for role in ("asked cause", "asked effect")
    }
    cause, effect = said["asked cause"], said["asked effect"]
    edges: Edges = []
    for _, part in rows[rows["sentence"].notna()].groupby("sentence", sort=True):
        ends = ["".join(part.loc[part["role"] == role, "token"].astype(str)) for role in ("cause", "effect")]
        edges.append((ends[0], ends[1]))
    if not cause or not effect or not edges:
        return {}
    first = next((node for edge in edges for node in edge if node in (cause, effect)), "")
    found = {
        "mention order": first == cause,
        "literal edge": (cause, effect) in edges,
        "end roles": any(a == cause for a, _ in edges) and any(b == effect for _, b in edges),
    }
    return {name: found[name] for name in names.SHORTCUTS}


def said_too(tokens: pd.DataFrame, label: bool) -> str:
    """`Mention order and end roles answer it rightly too; literal edge does not.`; empty where nothing is known."""
    given = guesses(tokens)
    right = [name for name, yes in given.items() if yes == label]
    wrong = [name for name in given if name not in right]
    if not given:
        return ""
    if not right:
        return "No shortcut answers it rightly."
    text = f"{' and '.join(right)} answer{'s' if len(right) == 1 else ''} it rightly too"
    text += f"; {' and '.join(wrong)} do{'es' if len(wrong) == 1 else ''} not." if wrong else ", so it tells nothing."
    return text[0].upper() + text[1:]
