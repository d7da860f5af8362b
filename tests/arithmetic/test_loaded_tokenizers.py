"""Tokenizers that came through a model folder: what a run reads off them and writes down."""

import numpy as np
import pytest
import tokenizers_made as made
import torch
import toys

from arithcirc.arithmetic.format import PromptFormat
from arithcirc.arithmetic.operators import ADD, OperandRange, fitting_prompts
from arithcirc.arithmetic.tokens import prompt_encoder
from arithcirc.config import PromptConfig
from arithcirc.errors import TokenizerError
from arithcirc.measure.answers import predictions
from arithcirc.models.load import load
from arithcirc.pipeline.job import open_job

SPACED = "{op1} {operator} {op2} = "
ROWS = 1400
"""Rows of W_E, enough for every vocabulary here."""


def loaded(tokenizer, folder):
    return load(str(toys.save(toys.gpt_neox(limit=ROWS), folder, tokenizer=tokenizer)), device="cpu")


@pytest.mark.parametrize(
    ("tokenizer", "added_by", "operator", "answer"),
    [(made.gpt2_like(300), "us", "Ġ+", "Ġ294"), (made.llama3_like(), "tokenizer", "Ġ+", "294")],
    ids=["GPT-J", "Llama 3"],
)
def test_a_run_records_the_bos_and_the_tokens_of_its_template(tmp_path, tokenizer, added_by, operator, answer):
    model = loaded(tokenizer, tmp_path / "model")
    job = open_job(model, tmp_path / "runs", prompts=PromptConfig(operands="0..99", template=SPACED))
    facts = job.run.manifest["facts"]
    assert facts["bos"]["added_by"] == added_by
    assert facts["bos"]["token"] == model.tokenizer.convert_ids_to_tokens([facts["bos_id"]])[0]
    assert facts["tokens"]["2 operator"].startswith(f"{operator}, one of")
    assert facts["tokens"][f"{job.encoder.length} answer"].startswith(f"{answer}, one of")
    prompts = fitting_prompts(job.operators[0], job.operands, job.encoder.limit)[:50]
    texts = [job.encoder.format.text(a, "+", b) + " " + str(c) for a, b, c in zip(*columns(prompts), strict=True)]
    own = model.tokenizer(texts, add_special_tokens=added_by == "tokenizer")["input_ids"]
    composed = np.column_stack([job.encoder.encode(prompts), job.encoder.answers(prompts.answer)])
    assert composed.tolist() == [own_row if added_by == "tokenizer" else [job.encoder.bos, *own_row] for own_row in own]


def columns(prompts):
    return prompts.op1.tolist(), prompts.op2.tolist(), prompts.answer.tolist()


@pytest.mark.parametrize(("template", "right"), [(SPACED, [7]), (SPACED.strip(), [])])
def test_an_answer_with_its_space_is_right_only_where_the_template_has_the_space(tmp_path, template, right):
    tokenizer, network = made.gpt2_like(300), toys.gpt_neox(limit=ROWS)
    with torch.no_grad():
        network.get_output_embeddings().weight *= 0.01
        network.get_output_embeddings().weight[tokenizer.convert_tokens_to_ids("Ġ7")] = 1
        network.gpt_neox.final_layer_norm.bias += 5
    model = load(str(toys.save(network, tmp_path / "model", tokenizer=tokenizer)), device="cpu")
    encoder = prompt_encoder(model.tokenizer, format=PromptFormat(template=template), vocab_size=model.info.d_vocab)
    prompts = fitting_prompts(ADD, OperandRange(0, 9), encoder.limit)
    given = predictions(model, encoder, prompts, batch_size=64)
    assert np.unique(prompts.answer[given == encoder.answers(prompts.answer)]).tolist() == right


@pytest.mark.parametrize(
    "tokenizer", [made.qwen_like(), made.sentencepiece_bpe(9, dummy=True)], ids=["Qwen", "Llama 2"]
)
def test_a_model_whose_tokenizer_splits_digits_is_refused_by_its_name(tmp_path, tokenizer):
    model = loaded(tokenizer, tmp_path / "some-model")
    with pytest.raises(TokenizerError, match=r"^some-model: its tokenizer splits numbers into digits"):
        open_job(model, tmp_path / "runs", prompts=PromptConfig(operands="0..9"))
    assert not (tmp_path / "runs").exists()
