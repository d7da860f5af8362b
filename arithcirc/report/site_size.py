"""How many bytes an export will take, before anything is drawn: from sizes of tables and grids alone.

The rates were measured on exports of the shipped model (four operators, 300 x 300 prompts) and of a model of a corpus
(two operators, 20 x 20 prompts, with an influence study), in bytes. plotly.js is counted as it is.
"""

from collections.abc import Mapping, Sequence

from plotly.offline import get_plotlyjs
from pyarrow import parquet

from arithcirc.neuron_maps import StoredMaps
from arithcirc.report import site_documents
from arithcirc.report.site_neurons import Chosen
from arithcirc.store import RunFolder
from arithcirc.viz.influence.ranked import MECHANISM, QUERY

ASSETS, OVERVIEW = 45_000, 20_000
REPORT = 26_000
REPORT_TABLES = {
    "effects": 130_000, "gallery": 90_000, "heuristics": 40_000, "knockouts_by_heuristic": 40_000,
    "neuron_faithfulness": 30_000, "faithfulness": 25_000, "knockouts_by_prompt": 20_000, "number_neurons": 12_000,
    "failures": 12_000,
}  # fmt: skip
"""What a table's figures take in the report, of one operator."""
PROMPT, NEURON_ROW, NEURON, CELL = 150, 500, 20_600, 0.73
"""A row of the pages of prompts and of neurons, a neuron's page, and each prompt of its maps there."""
DOCUMENT, LETTER, SAMPLE, LONGEST = 310, 1.2, 200, 480
"""A document shown and each letter of its text, how many texts are looked at, and how much of one is shown."""


def expected_bytes(
    run: RunFolder, chosen: Sequence[Chosen], maps: Mapping[str, StoredMaps], documents: site_documents.Documents
) -> int:
    """About what the pages and their assets will take. Raises RunConflictError for a damaged study."""
    operators = len(run.manifest["config"].get("prompts", {}).get("operators", "+"))
    there = set(run.tables())
    report = REPORT + operators * sum(size for name, size in REPORT_TABLES.items() if name in there)
    prompts = PROMPT * parquet.read_metadata(run.path / "prompts.parquet").num_rows if "prompts" in there else 0
    neurons = sum(NEURON_ROW + NEURON + CELL * maps[one.operator].size ** 2 for one in chosen)
    fixed = len(get_plotlyjs().encode()) + ASSETS + OVERVIEW
    return round(fixed + report + prompts + neurons + _documents(documents))


def _documents(held: site_documents.Documents) -> float:
    """The page of documents: a ranking per query and mechanism, with texts about as long as the first of the corpus."""
    if held.study is None:
        return 0.0
    rankings = sum(site_documents.ranking_count(held.study, table) for table in (QUERY, MECHANISM) if held.has(table))
    texts = held.study.texts(range(SAMPLE))
    letters = float(texts["text"].str.len().clip(upper=LONGEST).mean()) if len(texts) else 0.0
    return rankings * sum(site_documents.ENDS.values()) * (DOCUMENT + LETTER * letters)
