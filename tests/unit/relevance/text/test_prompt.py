import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from relevance.errors import InputError
from relevance.model.inputs import PairInputs
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.prompt import Prompt, default_prompt
from relevance.text.tokenization import PairTokenizer, answer_ids
from tests.models import tiny_asked_reranker, tiny_language_model

PROMPT = Prompt(text="<|im_start|>Query: {query}\nItem: {candidate}<|im_end|>\nAnswer:")


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def file(request, tmp_path_factory):
    return tiny_language_model(tmp_path_factory.mktemp("base"), request.param) / "tokenizer.json"


def inputs(file, max_length=96, prompt=PROMPT):
    return PairInputs(Task.QI, PairFormat(), PairTokenizer.from_file(file, max_length, 1, prompt))


def begins(file):
    return Tokenizer.from_file(str(file)).encode("").ids  # <s> of llama


def test_a_prompt_is_tokenised_as_one_text(file):
    pair = inputs(file).encode([Pair("red shoes", "zapatos rojos")])[0]
    text = "<|im_start|>Query: red shoes\nItem: zapatos rojos<|im_end|>\nAnswer:"
    assert pair.input_ids == Tokenizer.from_file(str(file)).encode(text).ids
    assert set(pair.token_type_ids) == {0}
    assert not pair.truncated


def test_line_breaks_behind_the_query_are_tokenised_with_it_where_the_prompt_says_so(tmp_path):
    file = tiny_asked_reranker(tmp_path) / "tokenizer.json"
    prompt = Prompt(text="Query: {query}\n\nItem: {candidate}", yes="yes", no="no")
    joined = prompt.model_copy(update={"breaks_with_query": True})
    pair = Pair("shoes?", "cups!")
    whole = Tokenizer.from_file(str(file)).encode("Query: shoes?\n\nItem: cups!").ids
    assert inputs(file, prompt=joined).encode([pair])[0].input_ids == whole
    assert inputs(file, prompt=prompt).encode([pair])[0].input_ids != whole  # one token is a sign and a break
    assert [prompt.texts[1], joined.texts[1]] == ["\n\nItem:", "Item:"]


def test_a_prompt_that_begins_with_the_tokenizers_own_mark_has_it_once(file):
    marked = PROMPT.model_copy(update={"text": f"<s>{PROMPT.text}"})
    ids = inputs(file, prompt=marked).tokenizer.template.prefix
    assert ids[0] == 0
    assert ids.count(0) == 1


def test_truncation_cuts_the_texts_and_never_the_prompt(file):
    reads = inputs(file)
    template, room = reads.tokenizer.template, 9
    short = inputs(file, template.overhead + room)
    pair = short.encode([Pair("red shoes " * 40, "home & garden " * 40)])[0]
    assert pair.truncated
    assert len(pair) == template.overhead + room
    assert tuple(pair.input_ids[: len(template.prefix)]) == template.prefix
    assert tuple(pair.input_ids[-len(template.suffix) :]) == template.suffix


def test_typed_marks_of_the_prompt_do_not_end_it(file):
    ids = inputs(file).encode([Pair("red<|im_end|> shoes", "cups <|im_start|>")])[0].input_ids
    assert ids.count(3) == 1
    assert ids.count(4) == 1


def test_words_of_the_prompt_stay_in_texts(file):
    reads = inputs(file)
    words = reads.tokenizer.encode_texts([" Query: Answer:"])[0]
    assert words == Tokenizer.from_file(str(file)).encode(" Query: Answer:", add_special_tokens=False).ids


def test_a_prompt_that_fills_the_length_is_refused(file):
    overhead = inputs(file).tokenizer.template.overhead
    fault = rf"max_length {overhead}: expected more than {overhead} tokens of the prompt, or a shorter prompt"
    with pytest.raises(InputError, match=fault):
        inputs(file, overhead)
    assert inputs(file, overhead + 1).tokenizer.max_length == overhead + 1


def test_tokenizers_that_add_a_space_themselves_get_none():
    pieces = {"<unk>": 0, "▁": 1, "▁a": 2, "▁Q": 3, ":": 4, "\n": 5, "a": 6, "Q": 7, "b": 8}
    core = Tokenizer(models.BPE(pieces, [("▁", "a"), ("▁", "Q")], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer = PairTokenizer(core, 32, 0, Prompt(text="Q: {query}\nQ: {candidate}", yes="a", no="b"))
    assert tokenizer.leads == ("", "")
    assert tokenizer.template.prefix == (3, 4)


def test_answers_are_the_tokens_that_continue_the_prompt(file):
    tokenizer = Tokenizer.from_file(str(file))
    found = answer_ids(tokenizer, PROMPT)
    assert [tokenizer.id_to_token(i) for i in found] == ["Ġyes", "Ġno"]
    after_a_line = Prompt(text="{query}\n{candidate}\nAnswer:\n", yes="yes", no="no")
    assert [tokenizer.id_to_token(i) for i in answer_ids(tokenizer, after_a_line)] == ["yes", "no"]


def test_an_answer_of_several_tokens_is_named(file):
    with pytest.raises(InputError, match=r"its answer ' shoelaces' is not one token after '<\|im_end\|>\\nAnswer:'"):
        answer_ids(Tokenizer.from_file(str(file)), PROMPT.model_copy(update={"yes": " shoelaces"}))


@pytest.mark.parametrize("text", ["", "{query}", "{candidate} {query}", "{query} {query} {candidate}"])
def test_a_text_without_its_places_is_refused(text):
    with pytest.raises(ValidationError, match=r"expected \{query\} and \{candidate\}, once each, in this order"):
        Prompt(text=text)


def test_equal_answers_are_refused():
    with pytest.raises(ValidationError, match="both answers are 'yes': expected two different words"):
        Prompt(text=PROMPT.text, yes="yes", no="yes")


@pytest.mark.parametrize("task", Task)
def test_the_four_steps_come_before_the_question(task):
    plain, steps = default_prompt(task), default_prompt(task, steps=True)
    assert steps.endswith(plain)
    assert all(f"\n{step}. " in steps for step in range(1, 5))
    assert Prompt(text=steps).parts[2].endswith("Answer:")
