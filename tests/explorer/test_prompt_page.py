"""The page Prompt: what is asked, what tables say, what the planted model explains and loses, in words and lists."""

import json
import time
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from explorer import planted_live as world
from explorer.asking import asker, fill, settled
from explorer.planted_live import DECOY, PlantedLive
from explorer.synthetic_explorer import lone_prompt

from arithcirc.components import Head, Neuron
from arithcirc.errors import PromptError, RequestError
from arithcirc.explorer.pages import prompt_ask as ask
from arithcirc.explorer.pages import prompt_facts as facts
from arithcirc.explorer.pages import prompt_said as said
from arithcirc.explorer.pages import prompt_words as words
from arithcirc.explorer.pages.prompt_case import Case, explain, knocked_out, try_out
from arithcirc.explorer.source import Source, open_source
from arithcirc.questions import Off
from arithcirc.store import RunFolder
from arithcirc.viz.contributions import Target

HEURISTIC = "op2 = 8 mod 10"


@pytest.fixture(scope="module")
def source(explorer_run: RunFolder) -> Source:
    return open_source("run", explorer_run.path)


@pytest.fixture(scope="module")
def lone() -> ask.Prompt:
    """A prompt that one heuristic carries: right with its neurons, DECOY without."""
    return ask.read(lone_prompt("+", HEURISTIC))


@pytest.fixture(scope="module")
def case(source: Source, lone: ask.Prompt) -> Case:
    return explain(PlantedLive(), lone, facts.labels_of(source, lone, "matched"))


# -- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["226-68=", "226-68", " 226 − 68 = ", "226 - 68="])
def test_a_prompt_is_read_however_it_is_typed(text):
    prompt = ask.read(text)
    assert (prompt.text, prompt.answer, prompt.shown) == ("226-68=", 158, "226 − 68")


@pytest.mark.parametrize(
    "text", ["", "226", "226+", "abc", "2**3=", "1-2=", "5/0=", "<script>", "9" * 80 + "-1=", "1+1=2", "1^1=", "\x00"]
)
def test_a_malformed_prompt_is_refused_in_one_line(text):
    with pytest.raises(PromptError) as caught:
        ask.read(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 160


def test_parts_are_split_outside_braces_and_named():
    items = ask.split("L3N17, L2H1,h:result in {1, 2, 3},L3N17,, h:op2 = 8 mod 10")
    assert items == ["L3N17", "L2H1", "h:result in {1, 2, 3}", "h:op2 = 8 mod 10"]
    carriers = {
        "result in {1, 2, 3}": [Neuron(4, 1)],
        "op2 = 8 mod 10": [Neuron(3, 17), Neuron(5, 5)],
        "*": [Neuron(1, 1)],
    }
    off = ask.named(items, carriers.__getitem__, 8, "mean")
    assert off == Off((Neuron(3, 17), Neuron(4, 1), Neuron(5, 5)), (Head(2, 1),), "mean")
    assert ask.named([ask.ALL], carriers.__getitem__, 8, "zero").neurons == (Neuron(1, 1),)
    assert len(ask.named(["L2MLP"], carriers.__getitem__, 8, "zero").neurons) == 8
    for wrong in (["L3"], ["drop table"], ["L1N1"] * 101, ["L99999N1"]):
        with pytest.raises(RequestError):
            ask.named(wrong, carriers.__getitem__, 8, "zero")


def test_the_control_has_as_many_others_of_the_same_layers_and_depends_on_its_seed():
    important = [Neuron(layer, i) for layer in range(3) for i in range(20)]
    off = Off(tuple(important[:5]) + tuple(important[45:48]), (Head(1, 0),))
    drawn = [ask.as_many(off, important, 4, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert not set(drawn[0].neurons) & set(off.neurons)
    assert sorted(n.layer for n in drawn[0].neurons) == [0] * 5 + [2] * 3
    assert [h.layer for h in drawn[0].heads] == [1]
    assert drawn[0].heads != off.heads
    assert len(ask.as_many(Off(tuple(important[:15])), important, 4, 0).neurons) == 5  # no more are there


# -- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", facts.LABELS)
def test_heuristics_that_hold_are_those_of_the_planted_world(source, which):
    prompt = ask.read("58+8=")
    labels = facts.labels_of(source, prompt, which)
    held = {name for name, holds in world.HOLDS.items() if holds(np.array(58), np.array(8), np.array(66))}
    assert set(labels.holding) == held & set(labels.rows["heuristic"])
    assert HEURISTIC in labels.holding
    carriers = {n for n, name in world.carriers("+").items() if name == HEURISTIC}
    assert set(labels.carriers(HEURISTIC)) == carriers
    assert set(labels.important) == set(world.ranks("+"))
    with pytest.raises(RequestError, match="no neuron is labelled"):
        labels.carriers("op1 = 3 mod 4")


def test_stored_maps_give_what_neurons_write(source, lone):
    found = facts.stored_writing(source, lone, [lone.answer, DECOY])
    at = dict(zip(found.neurons, found.writing, strict=True))
    for neuron in world.ranks("+"):
        h = float(world.activation("+", neuron, np.array(lone.op1), np.array(lone.op2)))
        wanted = h * world.values("+")[neuron.layer, neuron.index, [lone.answer, DECOY]]
        np.testing.assert_allclose(at[neuron], wanted, rtol=2e-3, atol=1e-3)
    assert facts.stored_writing(source, ask.Prompt("+", 400, 1), [401]) is None


def test_rows_of_heuristics_sum_their_neurons(source, lone):
    labels = facts.labels_of(source, lone, "matched")
    written = {neuron: float(neuron.layer) for neuron in world.ranks("+")}
    row = facts.heuristic_rows(labels, written).set_index("heuristic").loc[HEURISTIC]
    assert row["contribution"] == sum(n.layer for n in labels.carriers(HEURISTIC))
    assert row["neurons"] == len(labels.carriers(HEURISTIC))


def test_examples_are_answered_as_they_say(source):
    for text, correct in facts.examples(source, "+"):
        prompt = ask.read(text)
        assert facts.stored_answer(source, prompt).correct == correct


# -- the explained prompt --------------------------------------------------------------------------------------------


def test_targets_are_the_answer_and_its_difference_to_the_rival(case, lone):
    assert case.target("answer") == Target(lone.answer)
    assert case.target("difference") == Target(lone.answer, case.rivals[0])
    assert case.default == "answer"
    wrong = explain(PlantedLive(), ask.read("11+2="), case.labels)
    assert not wrong.reply.correct
    assert wrong.default == "difference"
    assert wrong.target("difference") == Target(13, DECOY)
    assert wrong.target("given") == Target(DECOY)


def test_the_answer_is_lost_without_its_heuristic_and_kept_without_as_many_others(case, lone):
    model, off = PlantedLive(), Off(case.labels.carriers(HEURISTIC))
    said = knocked_out(model, lone, off, case.labels.important, 0)
    assert said.before.correct
    assert said.after.guesses[0].number == DECOY
    assert said.control.correct
    assert len(said.random.neurons) == len(off.neurons)
    # the planted model has no later layers: all of the fall is direct, but for the readout's centring
    assert said.direct == pytest.approx(said.total, abs=1e-4)
    assert said.total < -0.5
    nothing = knocked_out(model, lone, Off(), case.labels.important, 0)
    assert nothing.after is None
    assert nothing.control is None


def test_the_words_say_what_the_numbers_say(case, lone):
    text = " ".join(words.sentences(case))
    assert f"answers **{lone.answer}** to {lone.shown}, which is **right**" in text
    assert "One heuristic holds" in text
    assert HEURISTIC in text
    n = len(case.labels.carriers(HEURISTIC))
    assert f"**{n} neurons** carry it, of {len(case.labels.important)} important ones" in text
    held = case.parts(case.target("answer")).group("holding")
    assert f"write **{words.signed(held)}** of the" in text


def test_the_knockout_is_told_with_its_control_and_the_fewest_that_turn_it(case):
    trial = try_out(PlantedLive(), case, Off(case.carriers), 0)
    told = " ".join(words.knockouts(case, trial))
    assert f"the model says **{DECOY}**" in told
    assert f"in {trial.kept} of {len(trial.draws)} draws" in told
    assert trial.kept == len(trial.draws)
    assert "hangs on what the labels point at" in told
    model = PlantedLive()
    assert not model.answer(case.prompt.text, Off(trial.turning)).correct
    assert model.answer(case.prompt.text, Off(trial.turning[:-1])).correct
    short = words.summary(case, trial)
    assert f"the model says {case.reply.answer} because" in short
    assert "the heads of layer 2" in short
    assert str(len(trial.turning)) in short or len(trial.turning) == 1


def test_a_wrong_answer_is_explained_as_a_difference(source):
    prompt = ask.read("11+2=")
    wrong = explain(PlantedLive(), prompt, facts.labels_of(source, prompt, "matched"))
    text = " ".join(words.sentences(wrong))
    assert f"answers **{DECOY}** to 11 + 2, which is **wrong**: the result is **13**" in text
    assert "No heuristic" in text
    assert f"in favour of **{DECOY}**: embedding and biases" in text


# -- the page as it is served ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(explorer_run: RunFolder):
    """A client with the planted model, loaded."""
    made = asker([explorer_run.path], PlantedLive())
    made.go("/prompt?op=%2B")
    for _ in range(2400):
        if made.context.live.state(made.context.source({}), start=False).ready:
            return made
        time.sleep(0.05)
    pytest.fail("the planted model did not load")


def test_without_a_model_the_page_says_what_is_stored(explorer_run, lone):
    page = asker([explorer_run.path]).go(f"/prompt?op=%2B&prompt={lone.op1}%2B{lone.op2}").calm().page
    assert "No live model" in page
    assert "When this run was made the model answered " in page
    assert "By the stored maps" in page
    assert "prompt-waterfall" not in page


@pytest.mark.parametrize(
    "prompt", ["abc", "1-2=", "5/0", "9999999999+1", "<script>alert(1)</script>", "500+400=", "{}"]
)
def test_a_bad_prompt_is_said_in_the_page(live, prompt):
    page = live.go(f"/prompt?prompt={prompt.replace('+', '%2B').replace('<', '%3C')}").calm().page
    assert "Not a prompt" in page
    assert "prompt-prompt" in page
    assert "wrong:" in page  # the examples stay


def test_a_bad_second_prompt_or_part_leaves_the_page_standing(live, lone):
    text = lone.text.replace("+", "%2B")
    page = live.go(f"/prompt?prompt={text}&with=abc&off=L99N1,h:nonsense&ablation=boil&seed=x&target=none").calm().page
    assert "'abc' is not understood" in page
    assert "there is no L99N1" in page
    assert "no neuron is labelled with 'nonsense'" in page
    assert "prompt-waterfall" in page


def test_two_prompts_lose_the_same_parts_side_by_side(live, lone):
    text = lone.text.replace("+", "%2B")
    page = live.go(f"/prompt?labels=matched&prompt={text}&with=11%2B2%3D&off=foo,h:{HEURISTIC}").calm().page
    for id in ("prompt-said-after", "prompt-said-with-after", "prompt-said-with-control", "prompt-trial-with"):
        assert f'"{id}"' in page
    assert page.count("'foo' is no part") == 1
    assert page.count("answers **") == 0
    assert page.count("Why the model answers ") == 2
    for id in ("prompt-waterfall", "prompt-neurons", "prompt-waterfall-with", "prompt-neurons-with"):
        assert f'"{id}"' in page
    assert page.count('"What writes the ') == 2
    groups = live.go(f"/prompt?labels=matched&prompt={text}&steps=groups").calm().page
    assert "-waterfall-with" not in groups
    assert "Click a neuron to open its page" in page
    assert "Click a neuron to open its page" not in groups


def test_bad_parts_are_told_and_the_others_switched_off():
    off, bad = ask.sorted_out(["L2N1", "foo", "L9N1", "L2H9", "L1H1"], lambda _: (), PlantedLive().info, "zero")
    assert off == Off((Neuron(2, 1),), (Head(1, 1),))
    assert list(bad) == ["foo", "L9N1", "L2H9"]


def test_operands_outside_the_run_are_said():
    assert "**300 lies outside 0..299**" in words.unseen(ask.read("300+1"), (0, 299))[0]
    assert not words.unseen(ask.read("299+1"), (0, 299))


def test_every_row_has_a_probability(lone):
    reply = PlantedLive().answer(lone.text)
    missing = next(n for n in range(200) if n not in [g.number for g in reply.guesses])
    assert said._chance(reply, None, missing)[0] == max(said.SMALLEST, reply.chances[missing])
    assert said._chance(reply, None, None)[0] >= reply.guesses[-1].probability
    assert said._chance(reply, None, None)[1]


def test_the_flagship_is_listed_by_the_answer_of_the_run(monkeypatch, source):
    monkeypatch.setattr(facts, "FLAGSHIP", (28, 8))
    for answer, group in ((None, "try"), (facts.Stored(20, True), "right"), (facts.Stored(3, False), "wrong")):
        monkeypatch.setattr(facts, "stored_answer", lambda *_, answer=answer: answer)
        found = facts.to_try(source, "-")
        assert found[group][0] == "28-8="


def test_switching_off_answers_again(live, lone, explorer_run):
    known = next(c for c in live.callbacks() if c["output"] == "prompt-said.children")
    key = next(iter(live.context.library.paths()))
    data = settled(key, "prompt", prompt=lone.text, labels="matched")
    body = fill(known, {"prompt-off.value": [f"h:{HEURISTIC}"], "prompt-ablation.value": "zero", "view.data": data})
    told = json.dumps(live.post(body).calm().json, ensure_ascii=False)
    assert "the answer changes to 7" in told
    assert "it is these that matter" in told
    for junk in (["L1"], "text", [{"a": 1}], None, ["h:" + "x" * 5000]):
        live.post(fill(known, {"prompt-off.value": junk, "prompt-ablation.value": 3, "view.data": data})).calm()


# -- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_type_a_prompt_switch_its_heuristic_off_and_restore_the_address(browser, served, lone):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto(f"{served}/prompt?labels=matched")
    page.locator("#prompt-waterfall .js-plotly-plot").wait_for(timeout=120_000)
    page.fill("#prompt-prompt", lone.text)
    page.press("#prompt-prompt", "Enter")
    page.get_by_text(f"Why the model answers {lone.answer} to {lone.shown}").wait_for(timeout=120_000)
    page.locator("#prompt-heuristics .ag-row", has_text=HEURISTIC).locator("input[type=checkbox]").click()
    after = page.locator("#prompt-said-after")
    after.wait_for(timeout=120_000)
    assert after.inner_text().startswith(str(DECOY))
    assert page.locator("#prompt-said-control").inner_text().startswith(str(lone.answer))
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("off") == [f"h:{HEURISTIC}"])
    again = browser.new_page(viewport={"width": 1280, "height": 800})
    again.goto(page.url)
    again.locator("#prompt-said-after").wait_for(timeout=120_000)
    assert again.locator("#prompt-said-after").inner_text().startswith(str(DECOY))
    again.locator("#prompt-clear").click()
    again.locator("#prompt-said-after").wait_for(state="detached", timeout=120_000)
    assert again.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not problems
    page.close()
    again.close()
