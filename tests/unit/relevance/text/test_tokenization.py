import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from relevance.errors import InputError
from relevance.text.tokenization import PairTokenizer
from tests.models import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder, pairs="<s> $A </s> $B:1 </s>:1")
    return folder


def tokenizer(folder, max_length=32):
    return PairTokenizer.from_file(folder / "tokenizer.json", max_length, pad_id=1)


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(first=texts, second=texts)
def test_ids_equal_those_of_transformers(folder, first, second):
    reference = PreTrainedTokenizerFast.from_pretrained(folder)
    expected = reference(first, second, truncation="longest_first", max_length=32, return_token_type_ids=True)
    if any(token in first + second for token in ("<s>", "</s>", "<pad>")):
        return
    pair = tokenizer(folder).encode_pairs([(first, second)])[0]
    assert pair.token_type_ids == expected["token_type_ids"][: len(pair)]
    if not pair.truncated:
        assert pair.input_ids == expected["input_ids"]
    assert len(pair) == len(expected["input_ids"])


def test_the_longer_text_is_cut_first(folder):
    pair = tokenizer(folder, 13).join([5, 6], list(range(10, 40)))
    assert pair.truncated
    assert pair.input_ids == [0, 5, 6, 2, *range(10, 18), 2]
    assert pair.token_type_ids == [0] * 4 + [1] * 9


@pytest.mark.parametrize(("query", "candidate", "kept"), [(3, 30, (3, 7)), (30, 3, (7, 3)), (20, 20, (5, 5))])
def test_both_texts_keep_their_fair_share(folder, query, candidate, kept):
    pair = tokenizer(folder, 13).join([7] * query, [8] * candidate)
    assert (pair.input_ids.count(7), pair.input_ids.count(8)) == kept
    assert len(pair) == 13


def test_typed_special_tokens_are_plain_text(folder):
    pair = tokenizer(folder).encode_pairs([("</s>", "<s> x")])[0]
    assert pair.input_ids.count(2) == 2
    assert pair.input_ids.count(0) == 1


def test_collate_pads_to_the_longest(folder):
    tok = tokenizer(folder, 30)
    batch = tok.collate([tok.join([5], [6]), tok.join([5], [6] * 24)])
    assert batch["input_ids"].shape == (2, 28)
    assert batch["input_ids"].dtype == np.int64
    assert batch["attention_mask"].sum(1).tolist() == [5, 28]
    assert (batch["input_ids"][0, 5:] == 1).all()


TEMPLATE = processors.TemplateProcessing(
    single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
)
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "a", "b"]


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({piece: place for place, piece in enumerate(PIECES)}, unk_token="<unk>"),
        models.Unigram([(piece, -1.0) for piece in PIECES], unk_id=3),
    ],
)
def test_text_out_of_the_vocabulary_has_the_unknown_id(model):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TEMPLATE
    tokenizer.add_special_tokens(PIECES[:4])
    pairs = PairTokenizer(tokenizer, 32, 1)
    assert pairs.unknown_id == 3
    assert pairs.encode_texts(["a \u4e00 b"]) == [[4, 3, 5]]


def test_tokenizer_that_knows_every_byte_has_no_unknown_id(folder):
    assert tokenizer(folder).unknown_id is None


def test_bad_files_and_lengths_are_named(tmp_path, folder):
    (tmp_path / "tokenizer.json").write_text("{}")
    for path in (tmp_path / "tokenizer.json", tmp_path / "absent.json"):
        with pytest.raises(InputError, match=r"expected a tokenizer\.json"):
            PairTokenizer.from_file(path, 32, 1)
    with pytest.raises(InputError, match="max_length 3"):
        tokenizer(folder, 3)
