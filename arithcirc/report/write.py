"""Write a report beside its tables: HTML, the same page printed as PDF, or Markdown; of a run or of a sweep."""

from pathlib import Path

from arithcirc.catalogue import SWEEP, SweepFolder
from arithcirc.errors import RequestError
from arithcirc.report import run_markdown, run_page, sweep_markdown, sweep_page
from arithcirc.report.markdown import MARKDOWN
from arithcirc.report.page import REPORT
from arithcirc.report.pdf import browser, print_pdf
from arithcirc.store import MANIFEST, RunFolder, write_text

FORMATS = ("html", "md", "pdf")
PDF = "report.pdf"


def open_folder(path: Path | str) -> RunFolder | SweepFolder:
    """The run or the sweep in a folder. Raises RequestError when it is neither, RunConflictError when damaged."""
    path = Path(path)
    if (path / SWEEP).is_file():
        return SweepFolder.open(path)
    if (path / MANIFEST).is_file():
        return RunFolder.open(path)
    inside = (path / "study", *sorted((path / "opening").glob("*")))
    if held := [str(place) for place in inside if (place / MANIFEST).is_file()]:
        raise RequestError(
            f"{path} is an axiom study, whose runs lie in its folders: give {' or '.join(held)}; 'arithcirc axioms "
            "report' tells of all of them"
        )
    raise RequestError(
        f"{path} is neither a run's folder (no {MANIFEST}) nor a sweep's (no {SWEEP}): give OUT/<model>/<revision>, or "
        "the --out of 'arithcirc sweep'"
    )


def render_report(folder: RunFolder | SweepFolder) -> str:
    """The HTML page as text. Tables the folder does not have are named on the page; nothing is written."""
    return sweep_page.render_page(folder) if isinstance(folder, SweepFolder) else run_page.render_page(folder)


def write_report(folder: RunFolder | SweepFolder, *, form: str = "html") -> Path:
    """Write `report.html`, `report.md` (with PNG figures in `figures/`) or `report.pdf`, atomically; returns its path.

    Raises RequestError for another format, EnvironmentFailure when a PDF is asked for and no browser is here.
    """
    if form not in FORMATS:
        raise RequestError(f"--format {form!r} is not known: use one of {', '.join(FORMATS)}")
    if form == "md":
        path = folder.path / MARKDOWN
        made = sweep_markdown if isinstance(folder, SweepFolder) else run_markdown
        write_text(path, made.render_markdown(folder))
        return path
    if form == "pdf":
        browser()
    path = folder.path / REPORT
    if isinstance(folder, SweepFolder):
        sweep_page.write_csv(folder)
    write_text(path, render_report(folder))
    return path if form == "html" else print_pdf(path, folder.path / PDF)
