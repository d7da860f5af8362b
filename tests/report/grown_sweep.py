"""A synthetic sweep made larger: more checkpoints or models, by repeating the rows of its tables under other names."""

from pathlib import Path

import pandas as pd
from sweep.synthetic_sweep import synthetic_sweep

from arithcirc.catalogue import SweepFolder
from arithcirc.sweep.collect import collect

_STEPS = ("birth", "first", "last")


def made(path: Path, operators: str = "+-") -> SweepFolder:
    """A synthetic sweep with its tables."""
    folder = synthetic_sweep(path, operators=operators)
    collect(folder)
    return folder


def grow(folder: SweepFolder, steps: int) -> SweepFolder:
    """So many checkpoints: each of the sweep's stands for several, one after the other, the last for the last."""
    (model,) = folder.manifest["models"]
    held = [r["revision"] for r in model["revisions"]]
    many = [0, *(2**i for i in range(11)), *(1000 * i for i in range(2, steps))]
    new = [*many[: steps - 1], 143000]
    stands = {f"step{step}": held[i * len(held) // steps] for i, step in enumerate(new)}
    for name in folder.tables():
        table = folder.table(name)
        if "revision" in table.columns:
            parts = [table[table["revision"] == old].assign(revision=r, step=int(r[4:])) for r, old in stands.items()]
            table = pd.concat(parts, ignore_index=True)
        elif set(_STEPS) <= set(table.columns):
            first = {int(old[4:]): int(r[4:]) for r, old in reversed(stands.items())}
            table = table.assign(**{c: table[c].map(first).astype("Int64") for c in _STEPS})
        table.to_parquet(folder.path / "tables" / f"{name}.parquet", index=False)
    model |= {"revisions": [{"revision": r, "step": int(r[4:])} for r in stands], "reference": f"step{new[-1]}"}
    folder.save()
    return folder


def repeat(folder: SweepFolder, other: str) -> SweepFolder:
    """Another model of the name given, with the same rows."""
    (model,) = folder.manifest["models"]
    for name in folder.tables():
        table = folder.table(name)
        both = pd.concat([table, table.assign(model=other)], ignore_index=True)
        both.to_parquet(folder.path / "tables" / f"{name}.parquet", index=False)
    folder.manifest["models"].append(model | {"model": other, "name": other})
    folder.save()
    return folder
