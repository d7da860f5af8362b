"""The report of an axiom study: how far models generalise, what they compute, and whether that is a rule.

`axioms_report` writes `report.html`, self-contained like the others, into the study's folder. Words come from
`viz.axioms`; what the folder has not is named on the page with the command that makes it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arithcirc.report.page import REPORT, flat, render
from arithcirc.store import write_text
from arithcirc.viz.axioms import beside, names, opened, words
from arithcirc.viz.axioms.beaten import TELLING, beaten
from arithcirc.viz.axioms.cells import trained
from arithcirc.viz.axioms.plates import PLATES
from arithcirc.viz.axioms.study import OPENING_TABLES, STUDY, STUDY_TABLES, AxiomStudy, without_manifest
from arithcirc.viz.embed import FigureGroup, plate_groups
from arithcirc.viz.frames import RunData, has

BUDGET = 3_000_000
"""Bytes of figure JSON; with plotly.js the page stays below 8 MB."""
STUDY_COMMAND, OPEN_COMMAND = "arithcirc axioms study", "arithcirc axioms open"
_OPTIONAL = ("training",)


def axioms_report(folder: Path | str) -> Path:
    """Write the report of a study's folder; returns its path.

    Raises RequestError for a folder without a study or an opened model, RunConflictError for a damaged table.
    """
    study = AxiomStudy.find(Path(folder))
    path = study.root / REPORT
    write_text(path, render_axioms(study))
    return path


def render_axioms(study: AxiomStudy) -> str:
    """The page as text; nothing is written."""
    data = study.read()
    return render("axioms.html", content(study, data), groups(data))


def groups(data: RunData) -> dict[str, FigureGroup]:
    """The page's figures, as far as there are tables and room for them."""
    return plate_groups(data, plates=PLATES, budget=BUDGET)


def content(study: AxiomStudy, data: RunData) -> dict[str, Any]:
    """Everything the page says but its figures."""
    manifest = study.manifest
    bars, bar_rows = words.bars(data)
    models = opened.openings(data)
    judged = beaten(data)
    return {
        "name": _name(study),
        "headline": _headline(study, data),
        "missing": missing(study, data),
        "in_short": words.in_short(data),
        "answers": words.answer(data),
        "cards": words.cards(data),
        "lengths": words.lengths(data),
        "beaten": [(m, *names.verdict(m.word or "cannot be said")) for m in judged],
        "sets": [s for s in names.SETS if any(s in m.by_set for m in judged)],
        "set_titles": names.SETS,
        "telling": TELLING,
        "trained": trained(data),
        "bars": bars,
        "bar_rows": bar_rows,
        "models": words.models(data),
        "beside": beside.tables(data),
        "elsewhere_published": beside.elsewhere(data),
        "verdicts": _each(opened.verdict, data, models),
        "circuits": _each(opened.circuit, data, models),
        "needed": _each(opened.layers_needed, data, models),
        "walks": _each(opened.walk, data, models),
        "comparison": opened.comparison(data),
        "differences": opened.differences(data),
        "opened": models,
        "open_command": open_command(study, data),
        "study_command": STUDY_COMMAND,
        "mix_hints": names.MIX_HINTS,
        "shortcut_hints": _asked(data),
        "verdict_terms": [(names.verdict(w)[0], said) for w, said in names.VERDICT_TERMS.items()],
        "config": _config(study),
        "stages": [(n, f"{r.get('seconds', 0):.1f}") for n, r in manifest.get("stages", {}).items()],
        "packages": manifest.get("packages", {}),
        "git_sha": manifest.get("git_sha"),
        "created": manifest.get("updated") or manifest.get("created", ""),
    }


def _asked(data: RunData) -> dict[str, str]:
    """The shortcuts that were asked, with what they do; every one where only openings are there."""
    if not has(data.tables, "cells", "kind", "model"):
        return dict(names.SHORTCUT_HINTS)
    cells = data.tables["cells"]
    held = set(cells.loc[cells["kind"] == "shortcut", "model"])
    return {who: said for who, said in names.SHORTCUT_HINTS.items() if who in held}


def _each(told: Any, data: RunData, models: list[str]) -> list[dict[str, Any]]:
    return [made for model in models if (made := told(data, model)) is not None]


def _name(study: AxiomStudy) -> str:
    if study.study is None:
        return next(iter(study.openings))
    recipe = study.study.manifest["config"].get("recipe", {})
    return str(recipe.get("name") or study.study.manifest.get("facts", {}).get("model") or study.root.name)


def _headline(study: AxiomStudy, data: RunData) -> str:
    """How large the study is, in one line."""
    said = []
    if "cells" in data.tables:
        cells = data.tables["cells"]
        asked = cells[cells["kind"] == "model"]
        number = int(asked["model"].nunique())
        sets = len(asked[["set", "nodes"]].drop_duplicates())
        most = int(asked["questions"].max()) if len(asked) else 0
        said.append(f"{number} model{'s' if number != 1 else ''} asked {sets} sets of up to {most:,} questions")
        said.append("each question about a graph of its own, half of the answers Yes")
    if study.openings:
        number = len(study.openings)
        said.append(f"{number} model{'s' if number != 1 else ''} opened")
    return f"{'; '.join(said)}."


def missing(study: AxiomStudy, data: RunData) -> list[tuple[str, str]]:
    """`(what is not there, the command that makes it)`."""
    found = []
    if study.study is None:
        found.append(("answers of trained models, the bars and the published numbers", STUDY_COMMAND))
    elif lacking := [n for n in STUDY_TABLES if n not in data.tables and n not in _OPTIONAL]:
        found.append((f"tables {', '.join(lacking)}", STUDY_COMMAND))
    if not study.openings:
        found.append(("what the models compute: none was opened", open_command(study, data)))
    for path in without_manifest(study.root):
        lost = f"{path.relative_to(study.root).as_posix()}: it has tables but no manifest.json and is damaged"
        found.append((lost, STUDY_COMMAND if path.name == STUDY else OPEN_COMMAND + " STEP_FOLDER"))
    for name, run in study.openings.items():
        if absent := [t for t in OPENING_TABLES if not (run.path / f"{t}.parquet").is_file()]:
            found.append((f"of {name}: {', '.join(absent)}", OPEN_COMMAND + " STEP_FOLDER"))
    return found


def open_command(study: AxiomStudy, data: RunData) -> str:
    """The command that opens the models this study is about: without positions, against learned ones."""
    folders: dict[str, str] = {}
    if "models" in data.tables:
        table = data.tables["models"]
        root = study.root.name if study.root.is_absolute() else study.root.as_posix()
        for row in table[table["counted"].astype(bool)].to_dict("records"):
            if row["mix"] == "TS2":
                folders.setdefault(str(row["positions"]), f"{root}/{row['folder']}")
    first = folders.get("none") or next(iter(folders.values()), "STEP_FOLDER")
    against = f" --against {folders['learned']}" if "none" in folders and "learned" in folders else ""
    return f"{OPEN_COMMAND} {first}{against}"


def _config(study: AxiomStudy) -> dict[str, list[tuple[str, str]]]:
    """Settings of the study and of each opening, lists as their words; no paths."""
    found: dict[str, list[tuple[str, str]]] = {}
    if study.study is not None:
        for section, values in study.study.manifest["config"].items():
            found[section] = flat(_plain(values))
    for name, run in study.openings.items():
        values = run.manifest["config"].get("opening", {})
        found[name] = flat({k: v for k, v in values.items() if k in ("questions", "seed")})
    return found


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: ", ".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in values.items()}
