"""A run as the shared words and facts read it (`viz.operator_facts.Tables`), and where a static export's pages are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arithcirc.components import Neuron
from arithcirc.neuron_maps import StoredMaps
from arithcirc.report.site_neurons import FOLDER, Chosen
from arithcirc.store import RunFolder
from arithcirc.viz import theme
from arithcirc.viz.commands import MADE_BY, recorded_line, stage_line
from arithcirc.viz.facts import model_facts
from arithcirc.viz.frames import RunData


@dataclass(frozen=True)
class RunTables:
    """The tables of one run, as they were read; never a sweep."""

    run: RunFolder
    held: RunData
    stored: Mapping[str, StoredMaps]

    @property
    def sweep(self) -> bool:
        """Never one."""
        return False

    @property
    def checkpoint(self) -> None:
        """None, as for every run."""
        return

    @property
    def model(self) -> dict[str, Any]:
        """Facts about the model."""
        return model_facts(self.run.manifest.get("facts", {}), dict(self.held.config))

    @property
    def operators(self) -> list[str]:
        """Operators with any result, in the usual order."""
        for name in ("accuracy", "effects", "neurons", "heuristics"):
            if self.has(name) and "operator" in self.held.tables[name].columns:
                return [o for o in theme.ordered(self.held.tables[name]["operator"]) if o in theme.OPERATOR_NAMES]
        return []

    def has(self, name: str) -> bool:
        """The run has the table."""
        return name in self.held.tables

    def damaged(self, _name: str, /) -> bool:
        """Never: reading the run found every table whole."""
        return False

    def table(self, name: str, operator: str | None = None) -> pd.DataFrame:
        """A table, of one operator if given."""
        table = self.held.tables[name]
        if operator is not None and "operator" in table.columns:
            table = table[table["operator"] == operator].reset_index(drop=True)
        return table

    def data(self, *tables: str) -> RunData:
        """Some tables, as far as they exist, with the configuration."""
        return RunData({t: self.held.tables[t] for t in tables if self.has(t)}, {}, self.held.config)

    def command(self, table: str) -> str:
        """The command line that makes a table."""
        stage = MADE_BY.get(table, "analyze")
        return stage_line(stage, dict(self.held.config), self.model, recorded_line(self.run.manifest))

    def maps(self, operator: str) -> StoredMaps | None:
        """The operator's stored activation maps."""
        return self.stored.get(operator)


@dataclass(frozen=True)
class SitePages:
    """Addresses of one operator's pages, from the overview."""

    operator: str
    chosen: Mapping[tuple[str, Neuron], Chosen]

    def url(self, page: str | None = None, **changes: Any) -> str:
        """A file of the site, a section of its report, or "" for a neuron without a page."""
        if page == "neuron":
            found = self.chosen.get((self.operator, Neuron(int(changes["layer"]), int(changes["neuron"]))))
            return f"{FOLDER}/{found.file}" if found is not None else ""
        places = {"prompt": "prompts.html", "heads": "report.html#heads", "heuristics": "report.html#labels"}
        return places.get(page or "", "")
