"""Looking costs nothing: help and the root import load no heavy library, pages load no compute arm."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "transformers", "transformer_lens", "plotly", "pandas", "duckdb", "numpy"}
SECONDS = 3.0  # under 1 s on an idle machine; this one may be training


def loaded_by(code: str) -> tuple[set[str], float]:
    """Which modules a fresh interpreter has loaded after some code, and the seconds it took."""
    ending = "\nimport json, sys; sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1])), time.perf_counter() - start


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["analyze", "--help"],
        ["sweep", "--help"],
        ["train", "--help"],
        ["influence", "--help"],
        ["influence", "score", "--help"],
        ["explore", "--help"],
        ["models"],
    ],
)
def test_help_is_cheap(arguments):
    modules, seconds = loaded_by(f"from arithcirc.cli.main import run\nassert run({arguments!r}) == 0")
    assert not modules & HEAVY
    assert seconds < SECONDS


def test_the_root_import_is_free():
    modules, seconds = loaded_by("import arithcirc\ndir(arithcirc)")
    assert not modules & HEAVY
    assert not {m for m in modules if m.startswith("arithcirc.")}
    assert seconds < SECONDS


def test_the_report_needs_no_compute_arm():
    modules, _ = loaded_by("import arithcirc.report")
    assert not modules & {"torch", "transformers", "transformer_lens", "kaleido"}


def test_the_explorer_needs_no_compute_arm():
    modules, _ = loaded_by("import arithcirc.explorer.server")
    compute = {f"arithcirc.{room}" for room in ("arithmetic", "models", "measure", "heuristics", "pipeline", "live")}
    assert not modules & ({"torch", "transformers", "transformer_lens", "kaleido"} | compute)


def test_computing_needs_no_figures():
    modules, _ = loaded_by("import arithcirc.pipeline.api")
    assert not {m for m in modules if m.split(".")[0] in {"dash", "plotly"}} | (modules & {"arithcirc.viz"})
