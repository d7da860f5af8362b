"""A toy model, thirty documents and seven queries: a study in seconds."""

import json
import random
from pathlib import Path

import toys
from safetensors import safe_open

from arithcirc.influence.study.fit import fit_factors
from arithcirc.influence.study.score import score
from arithcirc.influence.study.study import FIT, SCORE, Asked, How, Study, open_study
from arithcirc.models.plain import PlainModel, load_plain

DOCUMENTS, QUERIES, PARTITION = 30, 6, 16
ASKED = Asked(max_new_tokens=3, max_tokens=20)


def corpus(folder: Path, *, seed: int = 0) -> Path:
    """Documents of one to eight equations, some longer than 20 tokens; one query of them is longer than the context."""
    source = random.Random(seed)  # noqa: S311
    folder.mkdir(parents=True, exist_ok=True)
    documents = []
    for i in range(DOCUMENTS):
        pairs = [(source.randrange(30), source.randrange(30)) for _ in range(source.randint(1, 8))]
        equations = [f"{a}+{b}={a + b}" for a, b in pairs]
        kind, where = source.choice(["equation", "fact"]), source.choice(["web", "book"])
        documents.append(
            {"id": f"d{i}", "text": " ".join(equations), "kind": kind, "source": where, "holds": equations}
        )
    queries = [
        {"id": f"q{i}", "prompt": f"{i}+3=", "answer": str(i + 3), "group": "reasoning", "needs": [f"{i}+3={i + 3}"]}
        for i in range(QUERIES)
    ]
    queries.insert(2, {"id": "long", "prompt": "1+2=3 " * 12, "answer": "0"})
    for name, rows in (("documents", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def toy(folder: Path, *, seed: int = 1) -> PlainModel:
    """A random toy of this seed, loaded; saved once."""
    if not folder.exists():
        toys.save(toys.gpt_neox(seed=seed), folder)
    return load_plain(str(folder), device="cpu")


def opened(model: PlainModel, given: Path, out: Path, **more: object) -> Study:
    """The study opened for scoring, in two partitions."""
    options = {"asked": ASKED, "how": How(partition=PARTITION), "sections": SCORE} | more
    return open_study(model, given, out, **options)


def done(model: PlainModel, given: Path, out: Path) -> Study:
    """Fitted and scored."""
    fit_factors(opened(model, given, out, sections=FIT))
    study = opened(model, given, out)
    score(study)
    return study


def results(study: Study) -> dict[str, object]:
    """Every table as bytes and every part as metadata and arrays (whose order within the file is not fixed)."""
    found: dict[str, object] = {file.name: file.read_bytes() for file in study.run.path.glob("*.parquet")}
    for file in (study.run.path / "scores").glob("*.safetensors"):
        with safe_open(file, framework="numpy") as part:
            arrays = {name: part.get_tensor(name).tobytes() for name in part.keys()}  # noqa: SIM118
            found[file.name] = (part.metadata(), arrays)
    return found
