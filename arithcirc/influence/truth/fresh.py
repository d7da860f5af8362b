"""From a seed to a scored study: a corpus, a model trained on it, factors, scores and findings, each made once.

What `arithcirc influence corpus`, `train`, `fit`, `score` and `report` do one after the other, for trials on corpora
that nobody has looked at.
"""

from pathlib import Path

from arithcirc.influence.corpus import CorpusSpec, make_corpus
from arithcirc.influence.findings.run import run as find
from arithcirc.influence.study.fit import fit_factors
from arithcirc.influence.study.score import score
from arithcirc.influence.study.study import FIT, SCORE, open_study
from arithcirc.influence.train import CorpusRecipe, Material, open_material, train_on_corpus
from arithcirc.models.plain import load_plain
from arithcirc.store import RunFolder

CORPUS, MODEL, STUDY = "corpus", "model", "study"


def fresh_study(
    spec: CorpusSpec, recipe: CorpusRecipe, place: Path, *, device: str = "cpu"
) -> tuple[RunFolder, Material]:
    """The finished study of a corpus under `place`, and what training again needs. Stages on disk are used again.

    Raises RunConflictError where the folder was made for another corpus or recipe.
    """
    corpus = make_corpus(spec, place / CORPUS)
    material = open_material(corpus, recipe=recipe)
    trained = train_on_corpus(material, place / MODEL, device=device, threads=1)
    model = load_plain(str(trained.final), device=device)
    study = open_study(model, corpus.path, place / STUDY, sections=FIT)
    fit_factors(study)
    study = open_study(model, corpus.path, place / STUDY, sections=SCORE)
    score(study)
    find(study.run)
    return study.run, material
