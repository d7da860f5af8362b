"""What every page shares: templates, filters, scripts, and the policy that lets the page request nothing.

The page holds plotly.js once, every figure as escaped JSON, and a small script that draws them for light or dark. Its
content-security policy names the two scripts by hash and allows no request at all, so nothing leaves the page even if
a model's name or a prompt carries markup; autoescape makes such text inert in the first place.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from arithcirc.viz import theme
from arithcirc.viz.embed import FigureGroup, templates_json
from arithcirc.viz.influence import highlight, names
from arithcirc.viz.words import carrier_list, sentences

REPORT = "report.html"


@cache
def environment() -> Environment:
    """The templates' environment: everything is escaped, a name nobody gave is an error."""
    made = Environment(
        loader=PackageLoader("arithcirc", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "num": theme.number,
        "count": theme.count,
        "small": theme.p_value,
        "percent": theme.percent,
        "optitle": theme.operator_title,
        "family": theme.family_name,
        "sentences": sentences,
        "carriers": carrier_list,
        "score": names.score,
        "kind": names.kind,
        "kindcolour": names.kind_colour,
        "need": highlight.shows,
        "excerpt": highlight.excerpt,
        "shortlines": highlight.short_lines,
    }
    return made


def render(template: str, content: Mapping[str, Any], groups: Mapping[str, FigureGroup]) -> str:
    """The page as text: a template with its content, its figures, the scripts and their policy."""
    plotly, page = _script(get_plotlyjs()), _script(asset("report.js"))
    text = (
        environment()
        .get_template(template)
        .render(
            csp=_policy(plotly, page),
            style=Markup(asset("report.css")),  # noqa: S704  our own file
            plotly=Markup(plotly),  # noqa: S704  the installed plotly.js
            page=Markup(page),  # noqa: S704  our own file
            templates=Markup(templates_json()),  # noqa: S704  escaped by embed.safe
            groups={key: (group, Markup(group.safe_json())) for key, group in groups.items()},  # noqa: S704
            **{"elsewhere": (), **content},
        )
    )
    return str(text)


def flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as `(dotted key, text)` pairs."""
    if not isinstance(values, dict):
        return [(prefix, str(values))]
    pairs = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        pairs += flat(value, name) if isinstance(value, dict) else [(name, "–" if value is None else str(value))]
    return pairs


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return resources.files("arithcirc").joinpath("templates", name).read_text(encoding="utf-8")


def _script(source: str) -> str:
    """A script as it stands between its tags: line ends as the browser hashes them, no end tag inside."""
    return source.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _policy(*scripts: str) -> str:
    """A content-security policy that runs these scripts only and requests nothing."""
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{d}'" for d in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
