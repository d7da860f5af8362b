"""The parts of a study that need no factors: encoding, completions, words, chance, the best of many."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from studied import toy

from arithcirc.cli import show_influence
from arithcirc.config import ModelConfig
from arithcirc.influence.config import CorpusConfig, InfluenceConfig
from arithcirc.influence.documents import Query
from arithcirc.influence.study.baselines import K1, B, bm25, count_words, noise
from arithcirc.influence.study.completions import Completed, complete, is_correct, run_on
from arithcirc.influence.study.cost import Job, study_cost
from arithcirc.influence.study.encode import make_encoder, states
from arithcirc.influence.study.queries import _table
from arithcirc.influence.study.study import FIT
from arithcirc.influence.study.top import best
from arithcirc.influence_scores import ScoreStore, write_part
from arithcirc.store import RunFolder
from arithcirc.viz.influence import names

TEXTS = ["the slope is 3", "3+4=7 and 7*2=14", "", "The THE river of Zoran is Melvu", "4+3=7 4 4 4"]
ASKED = ["the slope of 3", "4+3=7", "nothing here"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("parts_model") / "toy")


@pytest.fixture(scope="module")
def encoder(model):
    return make_encoder(model.tokenizer, model.network, CorpusConfig(max_tokens=512), name="toy")


def test_a_text_stands_between_bos_and_end(encoder):
    assert encoder.max_tokens == encoder.context == 32
    ((span, tokens),) = encoder.pieces("1+2=3")
    assert tokens[0] == encoder.bos
    assert tokens[-1] == encoder.end
    assert (span.start, span.end, span.chunk) == (0, 5, 0)
    assert encoder.prompt("1+2=") == tokens[:-2]


@pytest.mark.parametrize(
    ("text", "statement", "found"),
    [
        ("the capital of Zoran is Melvu", "fact:Zoran:capital:Melvu", True),
        ("Melvu lies by the sea", "fact:Zoran:capital:Melvu", False),
        ("first 4 + 3 = 7", "4+3=7", True),
        ("first 4 + 3", "4+3=7", False),
    ],
)
def test_what_a_piece_states(text, statement, found):
    assert states(text, statement) is found


def test_completions_are_those_of_whole_forwards(model, encoder):
    prompts = ["1+2=", "3+4=", "10-2=", "1+2=3 4+5=", "2+2=4"]
    done, skipped = complete(model.network, encoder, [Query(p, p, "0") for p in prompts], max_new_tokens=5)
    assert not skipped
    assert [c.query.prompt for c in done] == prompts
    for c in done:
        row = list(c.prompt)
        for token in c.completion:
            with torch.no_grad():
                assert int(model.network(torch.tensor([row])).logits[0, -1].argmax()) == token
            row.append(token)
        assert c.row.start == len(c.prompt)
        assert len(c.completion) == 5


def test_a_completion_stops_before_the_text_that_was_given(model, encoder):
    asked = [Query(p, p, "0") for p in ("1+2=", "3+4=", "7*6=", "9-4=")]
    whole, _ = complete(model.network, encoder, asked, max_new_tokens=6)
    stop = whole[0].text[-1]
    cut = {c.query.id: c for c in complete(model.network, encoder, asked, max_new_tokens=6, stop=stop)[0]}
    for c in whole:
        prefixes = [c.completion[:n] for n in range(len(c.completion) + 1)]
        kept = max((p for p in prefixes if stop not in encoder.text(p).lstrip()), key=len)
        assert (cut[c.query.id].completion if c.query.id in cut else ()) == kept
        assert c.full == (len(c.completion) == 6)
    assert asked[0].id not in cut or not cut[asked[0].id].full


def test_completions_that_run_on_are_said(model, encoder):
    asked = [Query(p, p, "0") for p in ("1+2=", "3+4=")]
    done, _ = complete(model.network, encoder, asked, max_new_tokens=5)
    said = run_on(done, encoder, 5)
    assert said.startswith("2 of 2 completions filled --max-new-tokens 5 without an end")
    assert "never ended by itself" in said
    assert "--max-new-tokens 1 --replace" in said
    said = run_on([done[0], replace(done[1], full=False)], encoder, 5)
    assert said.startswith("1 of 2 completions")
    assert "--stop TEXT" in said
    assert run_on([replace(c, full=False) for c in done], encoder, 5) is None
    assert run_on(complete(model.network, encoder, asked, max_new_tokens=1)[0], encoder, 1) is None


def test_a_full_context_leaves_nothing_to_complete(model, encoder):
    far, near = Query("far", "1+2=3 " * 9, "0"), Query("near", "1+2=3 " * 5 + "1", "0")
    done, skipped = complete(model.network, encoder, [far, near], max_new_tokens=9)
    assert [name for name, _ in skipped] == ["far"]
    assert len(done[0].completion) == 32 - len(done[0].prompt)


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("Melvu", "Melvu", True),
        ("melvu.", "Melvu", True),
        ("Zun", "Melvu", False),
        ("first 2+9=11, then 11*4=44, the answer is 44", "first 2+9=11, then 11*4=44, the answer is 44", True),
        ("first 2+9=12, then 12*4=44, so 44", "11*4=44, the answer is 44", True),
        ("first 2+9=11, then 11*4=43, the answer is 43", "first 2+9=11, then 11*4=44, the answer is 44", False),
        ("-4", "4", False),
        ("", "4", False),
        ("4", "", False),
    ],
)
def test_right_answers(said, answer, right):
    assert is_correct(said, answer) is right


@pytest.mark.parametrize(("answer", "correct"), [("5", True), ("6", False), ("", None), (" \n", None)])
def test_whether_a_completion_is_right_is_unknown_without_an_answer(answer, correct):
    assert Completed(Query("q", "2+3=", answer), (1,), (2,), "5").correct is correct


def test_unknown_is_told_apart_from_wrong_on_the_screen_and_in_the_table(tmp_path, capsys):
    done = [Completed(Query(a or "none", "2+3=", a), (1,), (2,), "5") for a in ("5", "6", "")]
    run = RunFolder.create(
        tmp_path / "influence", InfluenceConfig(ModelConfig("toy", "main", "", "", "float32")), sections=FIT, facts={}
    )
    for some, said in (
        (done, "1 of 2 completed right, 1 without a known answer, 1.00 nats"),
        (done[:2], "1 of 2 completed right, 1.00 nats"),
        (done[2:], "queries            1 without a known answer, 1.00 nats"),
    ):
        run.write_table("queries", _table(some, np.ones(len(some)), np.ones(len(some))))
        assert [names.answered(c) for c in run.table("queries")["correct"]] == [c.correct for c in some]
        show_influence.scored(run)
        assert said in capsys.readouterr().out


def test_bm25_equals_its_formula():
    counts = count_words(TEXTS, ASKED)
    found = bm25(ASKED, TEXTS, counts)
    lengths = [4, 7, 0, 7, 6]
    assert counts.documents == 5
    assert counts.mean_words == np.mean(lengths)
    assert counts.having["4"] == 2
    idf = np.log(1 + (5 - 2 + 0.5) / (2 + 0.5))  # of 4 and of 7
    of_3 = np.log(1 + (5 - 3 + 0.5) / (3 + 0.5))
    share = K1 * (1 - B + B * 6 / np.mean(lengths))
    expected = idf * 4 / (4 + share) + of_3 / (1 + share) + idf / (1 + share)
    assert found[1, 4] == pytest.approx(expected, rel=1e-5)
    assert (found[2] == 0).all()
    assert (found[:, 2] == 0).all()


def test_bm25_equals_a_library_of_it():
    library = pytest.importorskip("bm25s")
    from arithcirc.influence.study.baselines import words

    index = library.BM25(k1=K1, b=B, method="lucene")
    index.index([words(t) or ["_"] for t in TEXTS], show_progress=False)
    counts = count_words([t or "_" for t in TEXTS], ASKED)
    found = bm25(ASKED, [t or "_" for t in TEXTS], counts)
    for i, query in enumerate(ASKED[:2]):
        np.testing.assert_allclose(found[i], index.get_scores(words(query)), rtol=1e-5, atol=1e-6)


def test_chance_depends_on_query_and_document_alone():
    whole = noise(3, 5, 0, 40)
    np.testing.assert_array_equal(whole[:, 16:24], noise(3, 5, 16, 24))
    assert (noise(4, 5, 0, 40) != whole).mean() > 0.99
    assert len(np.unique(whole)) == whole.size
    assert whole.mean() == pytest.approx(0.5, abs=0.1)


def test_the_best_of_parts_are_the_best_of_all(tmp_path):
    draw = np.random.default_rng(0)
    values = draw.integers(0, 7, (3, 50)).astype(np.float32)  # ties
    ones = np.ones(50, np.float32)
    for i, (start, end) in enumerate([(0, 20), (20, 23), (23, 50)]):
        arrays = {"ekfac": values[:, start:end]} | dict.fromkeys(("norm", "self", "nll"), ones[start:end])
        write_part(tmp_path / "scores", i, start, arrays, {"config": "x"})
    found = best(ScoreStore.open(tmp_path / "scores"), "ekfac", 12)
    for end, sign in (("top", -1), ("bottom", 1)):
        order = np.argsort(sign * values, axis=1, kind="stable")[:, :12]
        np.testing.assert_array_equal(found[end][0], order)
        np.testing.assert_array_equal(found[end][1], np.take_along_axis(values, order, 1))


def test_costs_add_up():
    shapes, job = [(9, 32), (33, 8)], Job(100, 6000, 50, 3000, 10, 200)
    cost = study_cost(5000, shapes, job)
    own = 2 * (9 * 32 + 33 * 8)
    assert cost.dot == 6000 * (30000 + own) + 100 * 10 * own + 200 * (30000 + own)
    assert cost.ekfac > cost.dot
    double = study_cost(5000, shapes, Job(200, 12000, 100, 6000, 10, 200, partitions=2))
    assert double.score == pytest.approx(2 * cost.score)
    assert cost.fit - cost.eigenvectors == pytest.approx((double.fit - double.eigenvectors) / 2)
