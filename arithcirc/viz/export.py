"""Figures of a run as files: .html, and .png, .svg or .pdf when kaleido is there, each with a .json sidecar.

The sidecar says where the picture came from: the command that writes it again, the sha256 of the run's configuration,
and the sha256 of the table it was drawn from (of every table and array, where there are several). The HTML holds
plotly.js and needs no network. Static images are drawn
by kaleido in one browser that is started once for all figures and closed afterwards; it is given the installed
plotly.js and no MathJax, so it asks the network for nothing either.
"""

import contextlib
import hashlib
import importlib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import plotly
import plotly.graph_objects as go

from arithcirc.catalogue import SweepFolder
from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.store import RunFolder, sha256_file, write_atomic, write_text
from arithcirc.viz import agreement, theme
from arithcirc.viz.axioms.plates import PLATES as AXIOM_PLATES
from arithcirc.viz.axioms.study import AxiomStudy
from arithcirc.viz.effects import head_carriers, head_heatmap, mlp_heatmap
from arithcirc.viz.emergence import plates as emergence
from arithcirc.viz.emergence.data import read_sweep
from arithcirc.viz.faithfulness import faithfulness_curves
from arithcirc.viz.frames import RunData
from arithcirc.viz.influence import plates as influence
from arithcirc.viz.influence.study import Study
from arithcirc.viz.plates import ARRAYS, PLATES, TABLES, Plate, drawn

STATIC = ("png", "svg", "pdf")
FORMATS = ("html", *STATIC)
WIDTH = 1240
SCALES = (2.0, 1.6, 1.3, 1.0)
"""Pixels per point of static images, the usual one first."""

Draw = Callable[[pd.DataFrame], go.Figure]
Named = tuple[str, tuple[str, ...], go.Figure]
"""File stem, files it is drawn from, figure."""
Image = Callable[[go.Figure, str, float], bytes]


def write_figures(
    run: RunFolder | SweepFolder,
    out: Path,
    formats: Sequence[str] = ("html",),
    *,
    command: str | None = None,
    only: Sequence[str] | None = None,
    at_most: int | None = None,
    cells: int = 300,
    skip_missing: bool = False,
) -> list[Path]:
    """Write every figure the run or sweep has tables for into `out`; returns the paths, sidecars not among them.

    `command` goes into the sidecars as the line that writes the figures again (default: the export command). `only`
    keeps the figures with these names, or whose name starts with one of them and an underscore ("gallery" keeps
    gallery_addition and its like); `skip_missing` passes over names no figure has. A .png of more than `at_most` bytes
    is drawn again at a smaller scale; activation maps have at most `cells` cells along a side, and are averaged over
    blocks where there are more.
    Raises RequestError for an unknown format, a name no figure has, or a run without tables to draw,
    EnvironmentFailure when a static format is asked for and kaleido or its browser is missing.
    """
    if unknown := [f for f in formats if f not in FORMATS]:
        raise RequestError(f"unknown figure format {unknown[0]!r}: use any of {', '.join(FORMATS)}")
    if set(formats) & set(STATIC):
        _kaleido()  # before anything is drawn
    sweep = isinstance(run, SweepFolder)
    study = None if isinstance(run, SweepFolder) else Study.find(run.path)
    axioms = None if isinstance(run, SweepFolder) else AxiomStudy.alone(run)
    if isinstance(run, SweepFolder):
        figures = list(emergence.drawn(read_sweep(run)))
    elif study is not None and study.path == run.path:
        figures = list(influence.drawn(influence.read_study(study)))
    elif axioms is not None:
        data = axioms.read()
        figures = [(stem, _files(plate, data), figure) for plate, stem, figure in drawn(AXIOM_PLATES, data)]
    else:
        figures = list(_figures(run, cells))
    if not figures and axioms is not None:
        raise RequestError(f"{run.path} has no figures of its own: give a study/ or the folder of an opened model")
    if not figures:
        kind, maker = ("sweep", "sweep") if sweep else ("run", "analyze")
        raise RequestError(f"{kind} {run.path} has no tables to draw: run 'arithcirc {maker}' first")
    if only is not None:
        figures = _chosen(figures, only, skip_missing)
    where = run.path.name if sweep else "/".join(run.path.parts[-2:])
    again = ["arithcirc", "export", where, "--out", out.name, "--formats", ",".join(formats)]
    origin = {"command": command or shlex.join(again)}
    written: list[Path] = []
    with _image_server(formats) as image:
        for name, sources, figure in figures:
            for form in formats:
                path = out / f"{name}.{form}"
                if form == "html":
                    write_text(path, _html(figure))
                else:
                    write_atomic(path, _writer(_small_enough(image, figure, form, at_most)))
                written.append(path)
            write_text(out / f"{name}.json", json.dumps(origin | _source(run, sources), indent=2) + "\n")
    return written


def _chosen(figures: Sequence[Named], only: Sequence[str], skip_missing: bool) -> list[Named]:
    """The figures named in `only`, each of which must name at least one unless missing ones are passed over."""
    kept = {start: [f for f in figures if f[0] == start or f[0].startswith(f"{start}_")] for start in only}
    if not skip_missing and (unknown := [start for start, found in kept.items() if not found]):
        names = ", ".join(name for name, _, _ in figures)
        raise RequestError(f"no figure is named {unknown[0]!r}: there are {names}")
    wanted = {f[0] for found in kept.values() for f in found}
    return [f for f in figures if f[0] in wanted]


def _small_enough(image: Image, figure: go.Figure, form: str, at_most: int | None) -> bytes:
    """The image at the largest scale with which it fits; at the smallest one if it fits with none."""
    scales = SCALES if form == "png" and at_most is not None else SCALES[:1]
    data = b""
    for scale in scales:
        data = image(figure, form, scale)
        if at_most is None or len(data) <= at_most:
            break
    return data


def _writer(data: bytes) -> Callable[[Path], object]:
    return lambda part: part.write_bytes(data)


def config_hash(run: RunFolder | SweepFolder) -> str:
    """sha256 of the configuration (of a sweep, its settings) as canonical JSON."""
    held = run.manifest.get("settings" if isinstance(run, SweepFolder) else "config")
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_data(run: RunFolder, tables: Sequence[str] = TABLES, *, cells: int = 300) -> RunData:
    """The run's tables and arrays that figures are drawn from, as far as they exist; maps get at most `cells` cells."""
    held = run.tables()
    arrays = {name: run.arrays(name) for name in ARRAYS if (run.path / f"{name}.safetensors").is_file()}
    return RunData({t: run.table(t) for t in tables if t in held}, arrays, run.manifest["config"], cells)


def _figures(run: RunFolder, cells: int) -> Iterator[Named]:
    """Every figure that the run's tables and arrays allow."""
    held = run.tables()
    for table, named in _drawings(float(run.manifest["config"].get("circuit", {}).get("target", 0.9))).items():
        if table not in held:
            continue
        frame = run.table(table)
        for name, draw in named.items():
            with contextlib.suppress(RequestError):
                yield name, (f"{table}.parquet",), draw(frame)
    data = read_data(run, cells=cells)
    for plate, stem, figure in drawn(PLATES, data):
        yield stem, _files(plate, data), figure


def _files(plate: Plate, data: RunData) -> tuple[str, ...]:
    tables = [f"{t}.parquet" for t in (*plate.tables, *plate.uses) if t in data.tables]
    return (*tables, *(f"{a}.safetensors" for a in plate.arrays))


def _drawings(target: float) -> dict[str, dict[str, Draw]]:
    effects: dict[str, Draw] = {}
    for metric in theme.METRICS:
        for position in theme.POSITIONS:
            effects[f"heads_{metric}_{position}"] = _heads(metric, position)
        effects[f"mlps_{metric}"] = _mlps(metric)
    effects["head_carriers"] = head_carriers
    compared: dict[str, dict[str, Draw]] = {
        "run_agreement": {"run_agreement": agreement.layers},
        "run_sizes": {"run_sizes": agreement.sizes},
    }
    return compared | {
        "effects": effects,
        "faithfulness": {"faithfulness": lambda t: faithfulness_curves(t, target=target)},
    }


def _heads(metric: str, position: str) -> Draw:
    return lambda table: head_heatmap(table, metric=metric, position=position)


def _mlps(metric: str) -> Draw:
    return lambda table: mlp_heatmap(table, metric=metric)


def _html(figure: go.Figure) -> str:
    return cast(str, figure.to_html(config=theme.PLOTLY_CONFIG, include_plotlyjs=True, full_html=True))


def _source(run: RunFolder | SweepFolder, files: Sequence[str]) -> dict[str, Any]:
    """What a figure was drawn from, by name and hash; no path of the machine. `also` holds all files but the first."""
    hashes = {name: sha256_file(run.path / name) for name in files}
    first, *others = files
    source = _subject(run) | {
        "run_config_sha256": config_hash(run),
        "table": first,
        "table_sha256": hashes[first],
    }
    return source | ({"also": {name: hashes[name] for name in others}} if others else {})


def _subject(run: RunFolder | SweepFolder) -> dict[str, Any]:
    """The model and revision, or a sweep's models and references."""
    if isinstance(run, SweepFolder):
        return {"references": {m["name"]: m["reference"] for m in run.manifest.get("models", ())}}
    model = run.manifest["config"].get("model", {})
    return {"model": model.get("name"), "revision": model.get("revision")}


@contextlib.contextmanager
def _image_server(formats: Sequence[str]) -> Iterator[Image]:
    """A function `(figure, format, scale) -> bytes` over one browser, which only static formats start."""
    if not set(formats) & set(STATIC):
        yield _refuse
        return
    kaleido = _kaleido()
    plotlyjs = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    try:
        kaleido.start_sync_server(plotlyjs=plotlyjs, mathjax=False, silence_warnings=True)
    except Exception as error:
        raise _no_browser(error) from error
    try:
        yield lambda figure, form, scale: _image(kaleido, figure, form, scale)
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


def _kaleido() -> Any:
    """The package that draws static figures."""
    try:
        return importlib.import_module("kaleido")
    except ImportError as error:
        raise EnvironmentFailure(
            "static figures need kaleido, which is not installed: pip install 'arithcirc[figures]', or write html only"
        ) from error


def _image(kaleido: Any, figure: go.Figure, form: str, scale: float) -> bytes:
    white = go.Figure(figure).update_layout(paper_bgcolor="white", plot_bgcolor="white")
    options = {"format": form, "width": WIDTH, "height": figure.layout.height or 420, "scale": scale}
    try:
        return cast(bytes, kaleido.calc_fig_sync(white.to_dict(), opts=options))
    except Exception as error:
        raise _no_browser(error) from error


def _no_browser(error: Exception) -> EnvironmentFailure:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return EnvironmentFailure(
        f"kaleido could not draw in a browser ({reason}): install the extra 'figures' (arithcirc[figures]) "
        "and Debian's chromium, or write html only"
    )


def _refuse(figure: go.Figure, form: str, scale: float) -> bytes:
    raise RequestError(f"no image server for {form} (figure of height {figure.layout.height}, scale {scale})")
