"""A run as static pages that open from disk: overview, prompts, neurons, a page per top neuron; no server, no network.

    index.html            overview: per operator, words, numbers, maps and top neurons
    report.html           the run's whole report
    prompts.html          prompts, answers, the heuristics that hold and their neurons
    neurons.html          the neurons with a page: sort, search by heuristic
    neurons/<op>_<name>.html
    documents.html        queries and mechanisms with their training documents, where the run has an influence study
    assets/               plotly.js, the script, the style and the figures' templates, once
    site.json             what made it; a folder without it is never written over

Pages are written into `<out>.part`, which then takes the place of an earlier export, so a kill leaves the old site or
the new one. Heat maps are packed (`report.site_pack`), 60 KB a neuron; a content-security policy allows the site's own
files and nothing else.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from arithcirc.errors import RequestError
from arithcirc.neuron_maps import StoredMaps
from arithcirc.report import run_page, site_documents, site_neuron, site_neurons, site_overview, site_prompts
from arithcirc.report.page import asset, environment
from arithcirc.report.site_neurons import FOLDER, Chosen
from arithcirc.report.site_size import expected_bytes
from arithcirc.report.site_tables import RunTables
from arithcirc.store import RunFolder, write_json, write_text
from arithcirc.viz.commands import recorded_line, stage_line
from arithcirc.viz.embed import templates_json
from arithcirc.viz.export import config_hash, read_data
from arithcirc.viz.frames import RunData

MARK = "site.json"
MADE = "arithcirc export"
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file: 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
ASSETS = ("report.js", "site.js", "site_tables.js", "site_theme.js", "report.css", "influence.css", "site.css")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SitePlan:
    """What will be written: the strongest neurons, those of them with a page, the bytes, what is left out and why."""

    strongest: list[Chosen]
    chosen: list[Chosen]
    maps: dict[str, StoredMaps]
    notes: list[str]
    documents: site_documents.Documents
    expected_bytes: int


@dataclass(frozen=True)
class Site:
    """What was written."""

    path: Path
    pages: int
    size: int


def plan_site(run: RunFolder, *, top: int = 200) -> SitePlan:
    """The neurons that get a page. Raises RequestError for a negative `top`, RunConflictError for a damaged study."""
    if top < 0:
        raise RequestError(f"--top {top} is not possible: give how many neurons get a page, 0 or more")
    data = read_data(run, ("neurons",))
    names = list(dict.fromkeys(data.tables["neurons"]["operator"])) if "neurons" in data.tables else []
    maps = site_neurons.stored(run.path, [str(n) for n in names], data.operands)
    strongest = site_neurons.choose(data, maps, top) if top else []
    chosen = [one for one in strongest if one.mapped]
    notes = []
    line = stage_line("maps", run.manifest["config"], _model(run), recorded_line(run.manifest))
    if top and not chosen:
        notes.append(
            f"no neuron pages, since no activation maps are stored: make them with '{line}', then export again"
        )
    elif len(chosen) < len(strongest):
        notes.append(
            f"{len(strongest) - len(chosen)} of the {len(strongest)} strongest neurons are listed without a page, as "
            "this run has no activation map of them: 'arithcirc explore' draws them with the live model; or delete the "
            f"run's maps_*.safetensors and run '{line}', which keeps those of the strongest neurons, then export again"
        )
    documents = site_documents.find(run)
    if documents.note:
        notes.append(documents.note)
    return SitePlan(strongest, chosen, maps, notes, documents, expected_bytes(run, chosen, maps, documents))


def write_site(
    run: RunFolder, out: Path, plan: SitePlan, *, command: str = MADE, progress: Progress = lambda *_: None
) -> Site:
    """Write the site into `out`, atomically. Raises RequestError where `out` holds something else.

    `command` is named in every footer; `progress(name, done, total)` is called after every page.
    """
    out = out.resolve()
    part, old = out.with_name(out.name + ".part"), out.with_name(out.name + ".old")
    for folder in (out, part, old):
        _refuse_foreign(folder)
    for folder in (part, old):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        pages = _write(run, part, plan, command, progress)
        if out.exists():
            out.replace(old)
        part.replace(out)
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)
    return Site(out, pages, sum(file.stat().st_size for file in out.rglob("*") if file.is_file()))


def _refuse_foreign(folder: Path) -> None:
    """A folder may be replaced when it is empty or an export of ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RequestError(f"{folder} is a file: give a folder's name as --out")
    if any(folder.iterdir()) and not (folder / MARK).is_file():
        raise RequestError(f"{folder} holds something else than an export (no {MARK}): give another --out, or empty it")


def _write(run: RunFolder, part: Path, plan: SitePlan, command: str, progress: Progress) -> int:
    stamp = {
        "made_by": MADE, "version": metadata.version("arithcirc"), "command": command,
        "config_sha256": config_hash(run), "created": run.manifest.get("created", ""),
    }  # fmt: skip
    write_json(part / MARK, stamp)
    _assets(part)
    data, target = run_page.page_data(run)
    labels = {o: site_neurons.labels_of(data, o) for o in plan.maps}
    total, done = len(plan.chosen) + 4 + (plan.documents.study is not None), 0
    shared = _shared(run, plan, stamp)

    def write(name: str, text: str) -> None:
        nonlocal done
        write_text(part / name, text)
        done += 1
        progress("pages", done, total)

    overview = site_overview.content(RunTables(run, data, plan.maps), plan.strongest, labels)
    write("index.html", _render("site_index.html", shared, **overview))
    write("report.html", _report(run, data, target, shared))
    write("prompts.html", _render("site_prompts.html", shared, prompts=site_prompts.rows(data, labels, plan.chosen)))
    write("neurons.html", _render("site_neurons.html", shared, rows=list(site_neurons.rows(plan.strongest, labels))))
    if plan.documents.study is not None:
        shown = site_documents.content(plan.documents, plan.chosen)
        write(site_documents.PAGE, _render("site_documents.html", shared, **shown))
    for at, entry in enumerate(plan.chosen):
        held = plan.maps[entry.operator].read(entry.neuron)
        if held is not None:
            mine = labels[entry.operator].get(entry.neuron, [])
            pairs = plan.maps[entry.operator].pairs()
            content = site_neuron.page(entry, held, mine, pairs, level=data.level) | _around(plan, at)
            content["built"] = site_documents.neuron(plan.documents, entry.operator, entry.neuron)
            write(f"{FOLDER}/{entry.file}", _render("site_neuron.html", shared | {"root": "../"}, **content))
    return done


def _model(run: RunFolder) -> dict[str, Any]:
    held: dict[str, Any] = run.manifest["config"].get("model", {})
    return held


def _shared(run: RunFolder, plan: SitePlan, stamp: dict[str, Any]) -> dict[str, Any]:
    """What every page is given."""
    model = _model(run)
    return {
        "frame": "site_page.html",
        "root": "",
        "csp": POLICY,
        "name": str(model.get("name", "model")),
        "revision": str(model.get("revision", "")),
        "stamp": stamp,
        "notes_site": plan.notes,
        "has_neurons": bool(plan.chosen),
        "has_documents": plan.documents.study is not None,
        "git_sha": run.manifest.get("git_sha"),
        "created": run.manifest.get("created", ""),
        "packages": run.manifest.get("packages", {}),
        "elsewhere": (),
    }


def _report(run: RunFolder, data: RunData, target: float, shared: dict[str, Any]) -> str:
    """The report's page in the site's frame."""
    groups = {key: (group, Markup(group.safe_json())) for key, group in run_page.groups(data, target).items()}  # noqa: S704
    templates = Markup(templates_json())  # noqa: S704  escaped by embed.safe
    content = run_page.content(run, data, target)
    return _render("report.html", content | shared, groups=groups, templates=templates, here="report")


def _around(plan: SitePlan, at: int) -> dict[str, Any]:
    """The neighbours of a neuron in its operator's order, and its pages under other operators."""
    entry = plan.chosen[at]
    near = [plan.chosen[i] if 0 <= i < len(plan.chosen) else None for i in (at - 1, at + 1)]
    before, after = (c if c is not None and c.operator == entry.operator else None for c in near)
    same = [c for c in plan.chosen if c.neuron == entry.neuron]
    others = [(o, next((c for c in same if c.operator == o), None)) for o in plan.maps if o != entry.operator]
    mine = [c for c in plan.chosen if c.operator == entry.operator]
    return {"before": before, "after": after, "others": others, "place": mine.index(entry) + 1, "of": len(mine)}


def _render(template: str, shared: dict[str, Any], **content: Any) -> str:
    return str(environment().get_template(template).render(**(shared | content)))


def _assets(part: Path) -> None:
    write_text(part / "assets/plotly.min.js", get_plotlyjs())
    write_text(part / "assets/theme.js", f"window.arithcircTheme = {templates_json()};\n")
    for name in ASSETS:
        write_text(part / "assets" / name, asset(name))
