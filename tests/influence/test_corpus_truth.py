"""A corpus made here says the truth about itself: what its documents hold, what its queries need, what is nowhere."""

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from tokenizers import Tokenizer

from arithcirc.influence.corpus import CorpusSpec, make_corpus
from arithcirc.influence.corpus.names import LONG, OPENINGS, SHORT, name, pieces
from arithcirc.influence.corpus.problems import MAKERS, TASKS, questions
from arithcirc.influence.corpus.statements import equations, fact_key, is_true, states
from arithcirc.influence.corpus.texts import SOURCES
from arithcirc.influence.corpus.vocabulary import BOS, NUMBER_ID, UNKNOWN, TokenCounter, vocabulary, words
from arithcirc.influence.documents import GROUPS, KINDS
from arithcirc.influence.findings.matching import Matcher

SPEC = CorpusSpec(documents=1000, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(SPEC, tmp_path_factory.mktemp("corpus") / "made")


@pytest.fixture(scope="module")
def documents(corpus):
    return list(corpus.documents())


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return Tokenizer.from_file(str(corpus.tokenizer_path / "tokenizer.json"))


def slow_equations(text):
    """Equations by splitting at everything that cannot be inside one."""
    found = []
    for word in re.split(r"[^\d+\-*/=().x]+", text):
        parts = re.split(r"([-+*/=])", word.rstrip("."))
        if len(parts) == 5 and parts[3] == "=" and parts[1] != "=" and all(p.isdecimal() for p in parts[::2]):
            found.append("".join(parts))
    return tuple(dict.fromkeys(found))


def test_documents_hold_exactly_the_equations_they_state_and_all_are_right(documents):
    assert all(is_true(held) for d in documents for held in d.holds if not held.startswith("fact:"))
    for d in documents:
        assert tuple(h for h in d.holds if not h.startswith("fact:")) == equations(d.text) == slow_equations(d.text)


def test_documents_hold_exactly_the_facts_they_state(corpus, documents):
    known = {entry["fact"] for entry in corpus.facts["facts"]}
    noted = [h for d in documents for h in d.holds if h.startswith("fact:") and h not in known]
    assert len(noted) == len(set(noted)) == 3 * sum(d.task == "note" for d in documents) == 180
    words = {d.id: set(re.findall(r"\w+", d.text)) for d in documents}
    for key in [*sorted(known), *noted]:
        _, entity, _, value = key.split(":")
        near = [d for d in documents if {entity, value} <= words[d.id]]
        assert [d.id for d in near if states(d.text, key)] == [d.id for d in documents if key in d.holds]


def test_facts_are_stated_as_often_as_the_corpus_says(corpus, documents):
    stated = Counter(h for d in documents for h in d.holds if h.startswith("fact:"))
    for entry in corpus.facts["facts"]:
        assert stated[entry["fact"]] == entry["documents"]
    asked = {entry["fact"]: entry for entry in corpus.facts["facts"] if entry["asked"]}
    assert {key for q in corpus.queries for key in q.needs if q.group == "factual"} == set(asked)
    assert Counter(entry["how"] for entry in asked.values()) == {"often": 13, "reversed": 3, "contradicted": 4}


def test_facts_that_should_be_hard_are(documents, corpus):
    by_entity = {q.needs[0]: q for q in corpus.queries if q.group == "factual"}
    for key, query in by_entity.items():
        _, entity, relation, value = key.split(":")
        rivals = Counter(
            h for d in documents for h in d.holds if h.startswith(f"fact:{entity}:{relation}:") and h != key
        )
        lines = [line for d in documents if key in d.holds for line in d.text.split("\n") if value in line]
        if query.id.startswith("reversed"):
            assert not rivals
            assert len(lines) == 2
            assert all(line.startswith(value) for line in lines)
        elif query.id.startswith("contradicted"):
            assert rivals.total() == 4 * len(lines) == 8
        else:
            assert not rivals
            assert any(line == f"{query.prompt} {query.answer}" for line in lines)
            assert len({re.sub(r"\b[A-Z]\w*[a-z]\b", "", line) for line in lines}) >= 3


def test_distractors_hold_nothing(documents):
    distractors = [d for d in documents if d.kind == "distractor"]
    assert distractors
    assert all(d.holds == () and not equations(d.text) for d in distractors)


def test_kinds_have_their_shares_and_sources_theirs(documents, corpus):
    kinds = Counter(d.kind for d in documents)
    assert kinds == {"equation": 350, "procedure": 250, "code": 70, "fact": 250, "distractor": 80}
    assert corpus.facts["documents"]["kinds"] == kinds
    for kind in KINDS:
        found = Counter(d.source for d in documents if d.kind == kind)
        for source, share in SOURCES[kind]:
            sd = (share * (1 - share) / kinds[kind]) ** 0.5
            assert abs(found[source] / kinds[kind] - share) < 4 * sd
    first = Counter(d.kind for d in documents[:300])  # kinds are mixed through the file
    assert all(abs(first[kind] - 0.3 * kinds[kind]) < 30 for kind in KINDS)


def test_equation_documents_cover_every_sum_and_difference_evenly(documents):
    held = Counter(h for d in documents if d.kind == "equation" for h in d.holds)
    wanted = [f"{a}+{b}={a + b}" for a in range(20) for b in range(20)]
    wanted += [f"{a}-{b}={a - b}" for a in range(20) for b in range(a + 1)]
    times = [held[equation] for equation in wanted]
    assert min(times) >= 1
    assert max(times) - min(times) <= 2  # once more where a pass ends inside a document, once where passes end
    rows = [d.text.split("\n") for d in documents if d.kind == "equation"]
    following = Counter(pair for lines in rows for pair in pairwise(lines) if "=" in pair[0])
    assert following.most_common(1)[0][1] <= 2  # no row tells the next


def test_queries_have_the_papers_groups_and_their_questions_are_nowhere(documents, corpus):
    queries = corpus.queries
    assert Counter(q.group for q in queries) == dict(zip(GROUPS, (24, 20, 8, 8), strict=True))
    assert Counter(q.task for q in queries if q.group == "reasoning") == {"two_step": 8, "slope": 8, "linear": 8}
    assert len({q.id for q in queries}) == len({q.prompt for q in queries}) == 60
    texts = "\n".join(d.text for d in documents)
    for query in queries:
        if query.group == "factual":
            continue
        question = query.prompt.partition(" ")[2].rstrip(":")
        assert question not in texts
        calls = ",".join(re.findall(r"\d+", question))
        assert query.group != "reasoning" or f"({calls})" not in texts


def test_reasoning_answers_are_right_and_needs_are_their_steps(corpus):
    for query in corpus.queries:
        if query.group != "reasoning":
            continue
        numbers = [int(n) for n in re.findall(r"\d+", query.prompt)]
        result = int(query.answer.split()[-1])
        if query.task == "two_step":
            assert result == (numbers[0] + numbers[1]) * numbers[2]
        elif query.task == "slope":
            assert result * (numbers[2] - numbers[0]) == numbers[3] - numbers[1]
        else:
            assert numbers[0] * result + numbers[1] == numbers[2]
        assert query.needs == equations(query.answer)
        assert all(is_true(need) for need in query.needs)
        assert query.needs[-1].endswith(f"={result}")


def test_controls_carry_their_answer_and_need_nothing(corpus):
    controls = [q for q in corpus.queries if q.group.startswith("control")]
    assert all(q.needs == () and re.search(rf"\b{q.answer}\b", q.prompt) for q in controls)
    assert all(q.prompt.split(" is ")[1].startswith(q.answer) for q in controls if q.group == "control_factual")


def test_steps_of_reasoning_queries_do_occur(documents, corpus):
    held = {h for d in documents if d.kind == "equation" for h in d.holds}
    needs = {need for q in corpus.queries if q.group == "reasoning" for need in q.needs}
    assert needs <= held


@pytest.mark.parametrize("task", TASKS)
def test_every_question_of_a_task_is_worked_rightly(task):
    found = questions(CorpusSpec(), task)
    assert not set(found.taught) & set(found.held_out)
    problems = [MAKERS[task](*arguments) for arguments in (*found.taught, *found.held_out)]
    assert len({p.asked for p in problems}) == len(problems)
    for problem in problems:
        assert all(is_true(e) for step in problem.steps for e in equations(step))
        assert equations(problem.steps[-1])[0].endswith(f"={problem.result}")
        assert max(int(n) for n in re.findall(r"\d+", f"{problem.asked} {problem.steps}")) <= 99


def test_nothing_is_unknown_and_tokens_decode_to_the_text(documents, corpus, tokenizer):
    texts = [d.text for d in documents] + [f"{q.prompt} {q.answer}" for q in corpus.queries]
    count = TokenCounter(99)
    for text, encoded in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert UNKNOWN not in encoded.tokens
        assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text
        assert count(text) == len(encoded.ids)
    lengths = [count(d.text) for d in documents]
    assert min(lengths) > 0
    assert max(lengths) == corpus.facts["tokens"]["longest"] < 128
    assert sum(lengths) == corpus.facts["tokens"]["all"]


def test_a_query_and_its_answer_are_the_tokens_of_both(corpus, tokenizer):
    for query in corpus.queries:
        both = tokenizer.encode(f"{query.prompt} {query.answer}").ids
        assert both == tokenizer.encode(query.prompt).ids + tokenizer.encode(query.answer).ids
        if query.group == "factual":
            assert len(tokenizer.encode(query.answer).ids) == 2


def test_numbers_are_one_token_and_larger_ones_unknown(tokenizer):
    assert [tokenizer.encode(str(n)).ids for n in range(100)] == [[NUMBER_ID + n] for n in range(100)]
    assert tokenizer.encode("100").tokens == [UNKNOWN]
    assert tokenizer.encode("12+7=").tokens == ["12", "+", "7", "="]
    assert tokenizer.token_to_id(BOS) == 0
    assert tokenizer.get_vocab() == vocabulary(99)
    assert len(vocabulary(99)) < 1000


def test_names_are_distinct_and_their_own_pieces(tokenizer):
    numbers = [*range(SHORT), *range(SHORT, SHORT + 3000), *range(SHORT + LONG, SHORT + LONG + 500)]
    names = [name(n, 5) for n in numbers]
    assert len(set(names)) == len(names)
    for n, encoded in zip(numbers, tokenizer.encode_batch(names), strict=True):
        first, *rest = pieces(n, 5)
        assert encoded.tokens == [first, *(f"##{piece}" for piece in rest)]


def test_no_word_is_the_beginning_of_a_name():
    assert not [word for word in words() if word[:2] in OPENINGS]


def test_what_counts_as_stated():
    assert equations("first 3+4=7, then 7*2=14. So 13+4=17; 8/2=4") == ("3+4=7", "7*2=14", "13+4=17", "8/2=4")
    assert equations("2*3+4=10 x+4=7 3+4=7*2 (1+2)*3=9 3+4=7.5 a3+4=7 3+4=7x 3+4=7(1)") == ()
    assert not states("13+4=17", "3+4=17")
    key = fact_key("Zoran", "capital", "Melvu")
    assert states("x\nMelvu, of Zoran", key)
    assert not states("Zoran\nMelvu", key)
    assert not states("Zorans Melvu", key)
    assert all(map(is_true, ("3+4=7", "8-5=3", "3*4=12", "8/2=4")))
    assert not any(map(is_true, ("3+4=8", "5-8=3", "3*4=11", "9/2=4", "8/0=0", "3-5=-2", "x")))


def test_another_range_of_operands_has_its_own_vocabulary_and_words(tmp_path):
    spec = replace(SPEC, documents=200, operands="0..60", factual=6)
    made = make_corpus(spec, tmp_path / "wide")
    core = Tokenizer.from_file(str(made.tokenizer_path / "tokenizer.json"))
    assert made.facts["vocabulary"] == {"size": len(vocabulary(120)), "limit": 120}
    assert all(UNKNOWN not in core.encode(d.text).tokens for d in made.documents())


def test_the_search_in_texts_finds_what_documents_hold(documents, corpus):
    """The findings' matcher is another implementation, made for any corpus: on this one both must agree."""
    needs = {need for query in corpus.queries for need in query.needs}
    matcher = Matcher.of(needs)
    for document in documents:
        assert matcher.stated(document.text) == needs & set(document.holds)
