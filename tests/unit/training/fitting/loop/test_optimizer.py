import pytest
import torch

from tests.models import tiny_model
from training.fitting.loop.optimizer import Optimizer, clip_gradients, parameter_groups
from training.fitting.recipe import TrainingSection
from training.models.cross_encoder import CrossEncoder, load_tokenizer, tensors
from training.models.options import HeadOptions
from training.models.used_rows import used_rows

CPU = torch.device("cpu")


@pytest.fixture
def made(tmp_path):
    tokenizer = load_tokenizer(tiny_model(tmp_path / "base"), 64)
    torch.manual_seed(0)
    model = CrossEncoder.from_base(tmp_path / "base", tokenizer, HeadOptions(kind="mean")).eval()
    pairs = tokenizer.encode_pairs([("red shoes", "cups"), ("home", "home & garden")])
    return model, tensors(tokenizer, pairs), {i for pair in pairs for i in pair.input_ids}


def rates(model, **section):
    dense, sparse = parameter_groups(model, TrainingSection(**section))
    found = {id(p): group["lr"] for group in [*dense, *sparse] for p in group["params"]}
    return {name: found[id(p)] for name, p in model.named_parameters() if id(p) in found}


def test_the_head_has_a_rate_of_its_own(made):
    found = rates(made[0], learning_rate=1e-4, head_learning_rate=1e-3)
    assert {name for name, rate in found.items() if rate == 1e-3} == {n for n in found if n.startswith("head.")}
    assert set(found.values()) == {1e-4, 1e-3}


def test_only_rows_of_the_words_in_use_are_trained(made):
    model, _, ids = made
    with used_rows(model, ids):
        dense, sparse = parameter_groups(model, TrainingSection(learning_rate=1e-4))
        assert [len(p) for group in sparse for p in group["params"]] == [len(ids | {1})]
        assert [group["lr"] for group in sparse] == [1e-4]
        assert dense


def test_used_rows_change_neither_logits_nor_gradients(made):
    model, inputs, ids = made
    table = model.encoder.get_input_embeddings()
    plain = model(**inputs)
    plain.sum().backward()
    expected = table.weight.grad.clone()
    model.zero_grad()
    with used_rows(model, ids):
        logits = model(**inputs)
        logits.sum().backward()
        rows = model.encoder.get_input_embeddings()
        got = torch.zeros_like(expected)
        got[sorted(ids | {1})] = rows.weight.grad.to_dense()
    assert torch.equal(plain, logits)
    torch.testing.assert_close(got, expected)
    assert model.encoder.get_input_embeddings() is table


def test_a_batch_moves_its_own_rows_alone(made):
    model, inputs, ids = made
    before = model.encoder.get_input_embeddings().weight.detach().clone()
    with used_rows(model, [*ids, 50, 51]):
        optimizer = Optimizer(model, TrainingSection(), "fp32", CPU)
        for _ in range(2):
            optimizer.step([model(**inputs).sum()])
    after = model.encoder.get_input_embeddings().weight
    moved = torch.nonzero((after != before).any(dim=1))[:, 0].tolist()
    assert moved == sorted(ids)


def test_first_steps_of_rows_are_those_of_adam(made):
    """Where every row is in every batch, Adam of the rows is Adam of the table."""
    model, inputs, ids = made
    section = TrainingSection(weight_decay=0.0, learning_rate=1e-3)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    plain = Optimizer(model, section, "fp32", CPU)
    for _ in range(3):
        plain.step([model(**inputs).sum()])
    expected = model.encoder.get_input_embeddings().weight.detach().clone()
    model.load_state_dict(start)
    with used_rows(model, ids):
        rows = Optimizer(model, section, "fp32", CPU)
        for _ in range(3):
            rows.step([model(**inputs).sum()])
    torch.testing.assert_close(model.encoder.get_input_embeddings().weight, expected, atol=2e-5, rtol=0)


def test_clipping_is_by_the_norm_of_all_gradients():
    dense = torch.nn.Parameter(torch.zeros(2))
    sparse = torch.nn.Parameter(torch.zeros(4, 2))
    dense.grad = torch.tensor([3.0, 0.0])
    sparse.grad = torch.sparse_coo_tensor([[1, 1]], [[0.0, 2.0], [0.0, 2.0]], (4, 2), check_invariants=True)
    assert clip_gradients([dense, sparse], 1.0) == 5.0
    torch.testing.assert_close(dense.grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(sparse.grad.to_dense()[1], torch.tensor([0.0, 0.8]))
    assert clip_gradients([dense, sparse], 2.0) == pytest.approx(1.0)
    torch.testing.assert_close(dense.grad, torch.tensor([0.6, 0.0]))
