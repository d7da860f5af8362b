"""Reports: self-contained pages that open from disk without a network, one kind for a run, one for a sweep,
one for an influence study.

    page.py       what both share: the templates' environment, the scripts, and the policy that allows no request
    run_page.py   one run: its tables in words, numbers and figures
    markdown.py   pieces of Markdown; run_markdown.py puts them together
    pdf.py        a page printed by chromium
    write.py      which of these, and where
    influence.py  an influence study; influence_markdown.py its Markdown

Reads folders on disk only: neither torch nor transformers is imported.
"""

from arithcirc.report.influence import influence_report
from arithcirc.report.page import REPORT
from arithcirc.report.write import FORMATS, open_folder, render_report, write_report

__all__ = ["FORMATS", "REPORT", "influence_report", "open_folder", "render_report", "write_report"]
