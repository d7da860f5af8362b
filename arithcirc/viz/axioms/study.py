"""The folders of an axiom study, read for its report: the study's own tables, and those of models that were opened.

    <root>/study/             cells, hops, training, models, bars, published
    <root>/opening/           comparison; and in it one run folder for each model that was opened
    <root>/opening/<name>/    patching, edge_heads, ..., verdict

A folder of one kind only is enough: answers of a model asked by itself (tables `cells` and `hops`), or a model that was
opened without a study. Tables of openings are put one below the other with the column `opening`, the model's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from arithcirc.errors import RequestError
from arithcirc.store import MANIFEST, RunFolder
from arithcirc.viz.axioms import names
from arithcirc.viz.frames import RunData

STUDY, OPENING = "study", "opening"
STUDY_TABLES = ("cells", "hops", "training", "models", "bars", "published")
OPENING_TABLES = (
    "patching", "edge_heads", "reach_probes", "layer_curves", "layers_needed", "circuit", "faithfulness", "neurons",
    "neuron_base_rate", "knockouts", "walk_tokens", "walk_attention", "walk_margins", "generalisation", "verdict",
)  # fmt: skip
COMPARISON = "comparison"


@dataclass(frozen=True)
class AxiomStudy:
    """What a folder has. `study` is None where only openings are there; `openings` by the models' names."""

    root: Path
    study: RunFolder | None
    openings: Mapping[str, RunFolder] = field(default_factory=dict)
    compared: RunFolder | None = None

    @classmethod
    def find(cls, folder: Path) -> "AxiomStudy":
        """The study of a folder, its `study/` or `opening/`, or of one run folder alone.

        Raises RequestError where there is none, RunConflictError when a manifest is damaged.
        """
        root = _root(folder)
        study = next((run for path in (root / STUDY, root) if (run := _run(path, ("cells",)))), None)
        places = [root / OPENING, *_inside(root / OPENING)]
        found = [run for path in (root, *places) if (run := _run(path, OPENING_TABLES))]
        if study is None and not found:
            if damaged := without_manifest(root):
                raise RequestError(f"{damaged[0]} has tables but no {MANIFEST}: it is damaged, make it again")
            raise RequestError(
                f"{folder} holds no axiom study: give its folder, or make one with 'arithcirc axioms study'"
            )
        compared = next((run for path in (root / OPENING, root) if (run := _run(path, (COMPARISON,)))), None)
        return cls(root, study, _named(found), compared)

    @classmethod
    def alone(cls, run: RunFolder) -> "AxiomStudy | None":
        """A study's run folder, or that of an opened model, without those beside it; None where it is neither."""
        if "evaluation" in run.manifest["config"]:
            return cls(run.path, run)
        if OPENING in run.manifest["config"]:
            return cls(run.path, None, _named([run]))
        return None

    def read(self) -> RunData:
        """Every table that is there, with the recipe. Raises RunConflictError for a damaged one."""
        tables: dict[str, pd.DataFrame] = {}
        if self.study is not None:
            held = set(self.study.tables())
            tables |= {name: self.study.table(name) for name in STUDY_TABLES if name in held}
            for name in ("cells", "hops"):
                if name in tables:
                    tables[name] = _told(tables[name])
        for name in OPENING_TABLES:
            parts = [
                run.table(name).assign(opening=label)
                for label, run in self.openings.items()
                if (run.path / f"{name}.parquet").is_file()
            ]
            if parts:
                tables[name] = pd.concat(parts, ignore_index=True)
        if self.compared is not None:
            tables[COMPARISON] = self.compared.table(COMPARISON)
        return RunData(tables, {}, {} if self.study is None else dict(self.study.manifest["config"]))

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The study's manifest, else that of the first opening."""
        run = self.study or next(iter(self.openings.values()))
        return run.manifest


def without_manifest(folder: Path) -> tuple[Path, ...]:
    """Folders of a study and of opened models that have tables and have lost their manifest: none of them is read."""
    root = _root(folder)
    kinds: list[tuple[Path, tuple[str, ...]]] = [(root / STUDY, ("cells",)), (root / OPENING, (COMPARISON,))]
    kinds += [(place, OPENING_TABLES) for place in _inside(root / OPENING)]
    return tuple(path for path, tables in kinds if _has(path, tables) and not (path / MANIFEST).is_file())


def _root(folder: Path) -> Path:
    """The folder that holds `study/` and `opening/`, where one of these two is given."""
    return folder.parent if folder.name in (STUDY, OPENING) and (folder.parent / folder.name).is_dir() else folder


def _has(path: Path, tables: tuple[str, ...]) -> bool:
    return any((path / f"{name}.parquet").is_file() for name in tables)


def _told(table: pd.DataFrame) -> pd.DataFrame:
    """Models without a recipe have mix and positions `other`; every row the column `set`."""
    made = table.copy()
    for column in ("mix", "positions"):
        text = made[column].fillna("").astype(str)
        made[column] = text.where((text != "") | (made["kind"] != "model"), names.OTHER)
    factor = pd.to_numeric(made["factor"]).astype("Float64").to_numpy(dtype=float, na_value=float("nan"))
    made["set"] = [names.set_name(str(f), v) for f, v in zip(made["family"], factor, strict=True)]
    return made


def _named(runs: list[RunFolder]) -> dict[str, RunFolder]:
    """Openings by `TS2-none-s0 step2400`, the last two parts of where the model lay, or of their folder."""
    found: dict[str, RunFolder] = {}
    for run in runs:
        told = Path(str(run.manifest.get("facts", {}).get("model") or run.path))
        name = " ".join(part for part in told.parts[-2:] if part not in ("/", "\\"))
        found.setdefault(name.replace("|", " "), run)
    return found


def _inside(folder: Path) -> list[Path]:
    order = {"none": 0, "learned": 1}
    return sorted(folder.iterdir(), key=lambda p: (order.get(p.name, 2), p.name)) if folder.is_dir() else []


def _run(path: Path, tables: tuple[str, ...]) -> RunFolder | None:
    """The run in a folder that has one of the tables."""
    if not (path / MANIFEST).is_file() or not _has(path, tables):
        return None
    return RunFolder.open(path)
