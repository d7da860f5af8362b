"""Reports: self-contained HTML pages that open from disk without a network, one kind for a run, one for a sweep.

    page.py       what both share: the templates' environment, the scripts, and the policy that allows no request
    run_page.py   one run: its tables in words, numbers and figures

Reads folders on disk only: neither torch nor transformers is imported.
"""

from arithcirc.report.page import REPORT
from arithcirc.report.run_page import MADE_BY, render_report, write_report

__all__ = ["MADE_BY", "REPORT", "render_report", "write_report"]
