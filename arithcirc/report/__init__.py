"""Reports: self-contained pages that open from disk without a network, one kind for a run, one for a sweep,
one for an influence study, one for a study of axioms.

    page.py       what both share: the templates' environment, the scripts, and the policy that allows no request
    run_page.py   one run: its tables in words, numbers and figures
    markdown.py   pieces of Markdown; run_markdown.py puts them together
    pdf.py        a page printed by chromium
    write.py      which of these, and where
    influence.py  an influence study; influence_markdown.py its Markdown
    axioms.py     a study of models that learned an axiom, and those of them that were opened

Reads folders on disk only: neither torch nor transformers is imported.
"""

from arithcirc.report.axioms import axioms_report
from arithcirc.report.influence import influence_report
from arithcirc.report.page import REPORT
from arithcirc.report.write import FORMATS, open_folder, render_report, write_report

__all__ = ["FORMATS", "REPORT", "axioms_report", "influence_report", "open_folder", "render_report", "write_report"]
