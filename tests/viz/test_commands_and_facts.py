"""The command lines, tokens, sizes and memory that the report quotes from the manifest."""

from dataclasses import asdict

import pytest

from arithcirc.config import HeuristicConfig, KnockoutConfig, PromptConfig
from arithcirc.viz.commands import recorded_line, stage_line
from arithcirc.viz.facts import headline, stage_rows, token_line

MODEL = {"name": "gemma2", "revision": "main", "dtype": "float32"}
GIVEN = {"prompts": asdict(PromptConfig(operators="+", pairs="0" * 64, operands="0..30"))}


@pytest.mark.parametrize(
    "typed",
    [
        "arithcirc analyze 'my models/gemma2' --operands 0..30 --pairs 'my pairs.csv' --out here --offline",
        "arithcirc prompts --operands=0..30 --offline --out=here 'my models/gemma2' --pairs='my pairs.csv'",
        "arithcirc localize --operators -+ --model 'my models/gemma2' --pairs 'my pairs.csv' --out here --offline",
    ],
)
def test_a_stage_takes_the_model_and_the_files_as_they_were_typed(typed: str) -> None:
    line = stage_line("probe", GIVEN, MODEL, typed)
    expected = "arithcirc probe 'my models/gemma2' --offline --out=here --operands=0..30 '--pairs=my pairs.csv'"
    assert line == expected


def test_without_a_recorded_line_the_name_and_a_placeholder_stand_in() -> None:
    line = stage_line("probe", GIVEN, MODEL)
    assert line == "arithcirc probe gemma2 --revision=main --operands=0..30 --pairs=FILE"


def test_the_shipped_model_needs_no_name() -> None:
    assert stage_line("probe", {}, MODEL, "arithcirc analyze --dtype bfloat16") == "arithcirc probe --dtype=bfloat16"


def test_neurons_of_a_file_go_to_the_command_that_takes_them() -> None:
    config = {"heuristics": asdict(HeuristicConfig(neurons="0" * 64)), "knockout": asdict(KnockoutConfig(prompts=7))}
    typed = "arithcirc heuristics m --neurons mine.csv"
    assert stage_line("heuristics", config, MODEL, typed) == "arithcirc heuristics m --neurons=mine.csv"
    assert stage_line("knockout", config, MODEL, typed) == "arithcirc knockout m --knockout-prompts=7"


def test_a_recorded_line_may_be_a_list_of_words() -> None:
    assert recorded_line({"notes": {"command": ["arithcirc", "analyze", "my model"]}}) == "arithcirc analyze 'my model'"
    assert recorded_line({"facts": {"command": None}}) is None


def test_the_headline_has_every_size_and_says_what_is_absent() -> None:
    shape = {
        "architecture": "Gemma2ForCausalLM", "n_layers": 26, "n_heads": 8, "n_kv_heads": 4, "d_model": 2304,
        "d_mlp": 9216, "n_params": 2_614_341_888, "sliding_window": 4096, "softcap": 30.0, "dtype": "bfloat16",
        "device": "cuda:0",
    }  # fmt: skip
    assert headline(shape) == (
        "Gemma2ForCausalLM, 26 layers × 8 heads, 4 key-value heads, width 2,304, MLP width 9,216, "
        "2,614,341,888 parameters, sliding window of 4,096 keys, soft-cap 30, bfloat16 on cuda:0."
    )
    assert "no sliding window, no soft-cap" in headline({"sliding_window": None, "softcap": None})
    assert headline({}) == "decoder language model."


def test_tokens_are_named_position_by_position() -> None:
    text = {f"{i} text": word for i, word in enumerate("abcd", start=1)}
    facts = {"tokens": {"0 bos": "<s>"} | text | {"10 answer": "19, one of 0 ... 60", "5 op1": "7"}}
    shown = [("<s>", "bos"), ("...", "4 tokens of text"), ("7", "op1"), ("19", "answer, one of 0 ... 60")]
    assert token_line(facts) == shown
    assert token_line(facts | {"bos": {"added_by": "us"}})[0] == ("<s>", "bos, added by us")
    assert token_line({"bos": "<s>"}) == []


def test_stages_come_in_the_order_they_ran_with_their_memory() -> None:
    stages = {
        "heads": {"finished": "2", "seconds": 1.25, "batch_size": 2048, "memory": {"predicted": 2e9, "measured": 9e8}},
        "prompts": {"finished": "1"},
        "localize": {"finished": "1", "memory": {"predicted": 5e6, "measured": None}},
    }
    rows = stage_rows(stages, ["prompts", "localize", "heads"])
    assert [r["stage"] for r in rows] == ["prompts", "localize", "heads"]
    assert (rows[2]["batch"], rows[2]["predicted"], rows[2]["measured"]) == ("2,048", "2.0 GB", "900 MB")
    assert (rows[1]["predicted"], rows[1]["measured"], rows[0]["seconds"]) == ("5 MB", "–", "–")
