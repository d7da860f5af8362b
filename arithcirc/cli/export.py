"""`arithcirc export`: a run as static pages that open from disk, or its figures as files."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from arithcirc.cli import show
from arithcirc.cli.interrupts import Interrupted
from arithcirc.errors import RequestError

if TYPE_CHECKING:
    from arithcirc.store import RunFolder


def export_command(
    run: Path,
    *,
    out: Path,
    top: Annotated[int, Parameter(help="Strongest neurons, by exact effect, operators in turn: a page each.")] = 200,
    formats: Annotated[str | None, Parameter(help="Figures as files instead: html, png, svg, pdf, by commas.")] = None,
) -> None:
    """Write a run as static pages that open from disk; with --formats, or of a sweep, its figures as files.

    The pages need no network: overview, prompts, neurons, a page for each of the strongest neurons whose activation map
    the run has, tested for heuristics or not. Each figure file has a .json sidecar
    that says where it came from; formats other than html need the extra `figures` and chromium.

    Parameters
    ----------
    run
        A run folder, OUT/<model>/<revision>, or a sweep's folder.
    out
        Folder for the pages or the figures; an earlier export of pages in it is replaced.
    """
    from arithcirc.catalogue import SweepFolder
    from arithcirc.report import open_folder

    folder = open_folder(run)
    if formats is None and not isinstance(folder, SweepFolder):
        if "prompts" not in folder.manifest["config"]:
            raise RequestError(
                f"{run} is no run of 'arithcirc analyze', which pages are of: give --formats for its figures"
            )
        _site(folder, out, top)
        return
    from arithcirc.viz.export import write_figures

    written = write_figures(folder, out, [f.strip() for f in (formats or "html").split(",")])
    show.out.print(f"{len(written)} figures: {out}")


def _site(run: "RunFolder", out: Path, top: int) -> None:
    """The pages, announced, counted and weighed."""
    from arithcirc.report.site import plan_site, write_site

    plan = plan_site(run, top=top)
    for note in plan.notes:
        show.err.print(note, markup=False)
    documents = "documents, " if plan.documents.study is not None else ""
    show.err.print(
        f"pages: overview, report, prompts, {documents}neurons and {len(plan.chosen)} single neurons, "
        f"about {show.memory(plan.expected_bytes)} in {out}",
        markup=False,
    )
    again = shlex.join(["arithcirc", "export", _typed(run.path, 2), "--out", _typed(out, 1), "--top", str(top)])
    earlier = out.is_dir() and any(out.iterdir())
    try:
        with show.progress() as report:
            progress: Callable[[str, int, int], None] = report
            site = write_site(run, out, plan, command=again, progress=progress)
    except KeyboardInterrupt:
        kept = f"the earlier export in {out} is untouched" if earlier else f"nothing was written to {out}"
        raise Interrupted(f"interrupted: {kept}, nothing half-written is left; run the command again") from None
    show.out.print(f"{site.pages} pages, {show.memory(site.size)}: {out / 'index.html'}", markup=False)


def _typed(path: Path, parts: int) -> str:
    """A relative path as it was given; of another the last parts, for pages must not name folders of this machine."""
    return (
        path.as_posix()
        if not path.is_absolute() and ".." not in path.parts
        else "/".join(path.resolve().parts[-parts:])
    )
