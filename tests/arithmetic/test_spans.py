"""Pieces of a text are found among its tokens, whatever the tokenizer does with spaces."""

import pytest
import tokenizers_made as made

from arithcirc.arithmetic.spans import Span, TokenizedText, tokenize, trouble, trouble_around


@pytest.mark.parametrize(
    ("tokenizer", "tokens", "span"),
    [
        (made.gpt2_like(99), ["Q", ":", "Ġ12", "+"], Span(2, 3)),
        (made.llama3_like(), ["Q", ":", "Ġ", "12", "+"], Span(3, 4)),
        (made.unigram(99, dummy=True), ["▁", "Q", ":", "▁12", "+"], Span(3, 4)),
        (made.unigram(99, dummy=True, spaced=-1), ["▁", "Q", ":", "▁", "12", "+"], Span(4, 5)),
        (made.sentencepiece_bpe(9, dummy=True), ["▁", "Q", ":", "▁", "1", "2", "+"], Span(4, 6)),
    ],
)
def test_a_span_holds_the_tokens_of_its_characters_and_no_bare_space(tokenizer, tokens, span):
    written = tokenize(tokenizer, "Q: 12+")
    assert list(written.tokens) == tokens
    assert written.span(3, 5) == span
    assert written.covered(span) == "12"
    assert (trouble(written, 3, 5) is None) == (len(span) == 1)


def test_a_dummy_space_before_the_first_number_is_not_the_numbers():
    written = tokenize(made.sentencepiece_bpe(9, dummy=True), "12+")
    assert (written.tokens[:3], written.span(0, 2)) == (("▁", "1", "2"), Span(1, 3))


@pytest.mark.parametrize(
    ("tokens", "offsets", "kind"),
    [
        (("12",), ((0, 2),), None),
        (("1", "2"), ((0, 1), (1, 2)), "digits"),
        (("12", "3"), ((0, 2), (2, 3)), "split"),
        (("12+",), ((0, 3),), "joined"),
        (("<0x31>", "<0x32>"), ((0, 1), (1, 2)), "bytes"),
        (("<unk>",), ((0, 2),), "unknown"),
        ((), (), "unknown"),
    ],
)
def test_the_trouble_with_a_number_has_a_kind(tokens, offsets, kind):
    text = "123" if kind == "split" else "12+"
    ids = tuple(i * (spelling != "<unk>") for i, spelling in enumerate(tokens, start=1))
    found = trouble(TokenizedText(text, ids, tokens, offsets, 0), 0, 3 if kind == "split" else 2)
    assert (found.kind if found else None) == kind
    if found:
        error = str(found.error("toy: its tokenizer"))
        assert error.startswith(f"toy: its tokenizer {found.says}, as in {text!r}")


@pytest.mark.parametrize(("expected", "kind"), [(Span(0, 1), "space"), (Span(1, 2), "context")])
def test_a_bare_space_is_blamed_only_where_it_moved_the_number(expected, kind):
    written = tokenize(made.unigram(99, dummy=True, spaced=-1), "12+")
    assert (written.tokens[:2], written.span(0, 2)) == (("▁", "12"), Span(1, 2))
    assert trouble_around(written, 0, 2, expected=expected).kind == kind


def test_spans_count_and_shift():
    assert len(Span(2, 5)) == 3
    assert Span(2, 5).shifted(1) == Span(3, 6)
