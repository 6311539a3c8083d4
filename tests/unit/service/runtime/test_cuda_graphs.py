"""Runs in buckets, on the CPU: the code that captures on a GPU, with nothing to capture."""

import logging
import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from onnx import TensorProto, helper

from relevance.errors import MachineError
from relevance.model.bundle import MODEL_FILE, Bundle
from service.batch_shape import GPU_SHAPE, BatchShape
from service.runtime.cuda_graphs import Bucket, GraphRunner, buckets_of, pad_to_bucket, smallest_bucket
from service.runtime.device_thread import DeviceThread
from service.runtime.providers import GpuOptions
from service.runtime.session import Engine
from tests.tiny import PAD_ID, tiny_bundle, tiny_model

SHAPE = BatchShape(256, (8, 16, 32), free_tokens=128)
TOLERANCE = 1e-5


def session_of(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def samples(rows=5, width=24, seed=0):
    """Return the inputs of rows of different lengths, padded on the right as the tokeniser does."""
    rng = np.random.default_rng(seed)
    kept = np.arange(width) < rng.integers(1, width + 1, size=rows)[:, None]
    ids = np.where(kept, rng.integers(4, 200, size=kept.shape), PAD_ID)
    return {"input_ids": ids, "attention_mask": kept.astype(np.int64)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "qc"
    tiny_bundle(folder, depth=1)
    return session_of(str(Bundle.open(folder).folder / MODEL_FILE))


@pytest.fixture(scope="module")
def fixed(plain):
    runs = GraphRunner(plain, "logits", PAD_ID, "cpu")
    runs.capture(buckets_of(SHAPE), samples(), TOLERANCE)
    return runs


@examples(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_logits_are_those_of_a_plain_run_whatever_the_batch(plain, fixed, rows, width, seed):
    feeds = samples(rows, width, seed)
    (expected,) = plain.run(["logits"], feeds)
    found = fixed.run(feeds)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_runs_of_many_threads_do_not_mix_up_their_buffers(plain, fixed):
    feeds = [samples(4, 16, seed) for seed in range(8)]
    expected = [plain.run(["logits"], each)[0] for each in feeds]
    worst = [1.0] * len(feeds)

    def work(place):
        worst[place] = max(np.abs(fixed.run(feeds[place]) - expected[place]).max() for _ in range(50))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(feeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) < TOLERANCE


def test_the_buckets_end_where_rows_cost_something():
    buckets = buckets_of(SHAPE)
    assert {bucket.rows for bucket in buckets if bucket.width == 32} == {1, 2, 4}
    assert all(bucket.rows * bucket.width <= SHAPE.free_tokens for bucket in buckets)
    tokens = [bucket.rows * bucket.width for bucket in buckets]
    assert tokens == sorted(tokens, reverse=True)


def test_no_run_of_free_rows_is_left_without_a_bucket():
    shape = GPU_SHAPE.limited_to(64)
    buckets = buckets_of(shape)
    for width in shape.lengths:
        most = shape.free_tokens // width
        for rows in range(1, 2 ** (most.bit_length() - 1) + 1):
            bucket = smallest_bucket(buckets, rows, width)
            assert bucket.width == width
            assert rows <= bucket.rows < 2 * rows


def test_exact_lengths_have_no_buckets():
    assert buckets_of(BatchShape(512, free_tokens=32)) == []


def test_a_run_that_fits_no_bucket_has_none():
    assert smallest_bucket([Bucket(4, 16)], 5, 16) is None
    assert smallest_bucket([Bucket(4, 16)], 4, 17) is None


def test_rows_are_filled_up_with_copies_and_columns_with_padding():
    filled = pad_to_bucket(np.array([[5, 6], [7, 8]]), Bucket(3, 4), 1)
    assert filled.tolist() == [[5, 6, 1, 1], [7, 8, 1, 1], [7, 8, 1, 1]]


def test_a_session_whose_runs_disagree_is_refused():
    model = tiny_model(0, 16, 0)
    graph = model.graph
    graph.node.append(helper.make_node("RandomNormalLike", ["logits"], ["noise"], scale=1.0))
    graph.node.append(helper.make_node("Add", ["logits", "noise"], ["noisy"]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("noisy", TensorProto.FLOAT, ["batch"]))
    runs = GraphRunner(session_of(model.SerializeToString()), "noisy", PAD_ID, "cpu")
    with pytest.raises(MachineError, match="differ"):
        runs.capture(buckets_of(SHAPE), samples(), TOLERANCE)
    assert runs.buckets == ()
    assert runs.run(samples(2, 8)).shape == (2,)


def test_a_session_that_gives_no_numbers_is_refused():
    model = tiny_model(0, 16, 0)
    graph = model.graph
    graph.node.append(helper.make_node("Sub", ["logits", "logits"], ["zero"]))
    graph.node.append(helper.make_node("Div", ["zero", "zero"], ["nan"]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("nan", TensorProto.FLOAT, ["batch"]))
    runs = GraphRunner(session_of(model.SerializeToString()), "nan", PAD_ID, "cpu")
    with pytest.raises(MachineError, match="differ by nan"):
        runs.capture(buckets_of(SHAPE), samples(), TOLERANCE)


def test_a_session_that_cannot_run_a_bucket_is_refused():
    model = tiny_model(0, 16, 0)
    feeds = samples()
    feeds["input_ids"][0, 0] = 10_000  # no such token
    runs = GraphRunner(session_of(model.SerializeToString()), "logits", PAD_ID, "cpu")
    with pytest.raises(MachineError, match="could not capture"):
        runs.capture(buckets_of(SHAPE), feeds, TOLERANCE)


def test_a_column_of_logits_keeps_its_shape():
    model = tiny_model(0, 16, 0)
    graph = model.graph
    graph.node.append(helper.make_node("Unsqueeze", ["logits", "middle"], ["column_of_logits"]))
    shape = ["batch", 1]
    graph.output[0].CopyFrom(helper.make_tensor_value_info("column_of_logits", TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    runs = GraphRunner(session_of(model.SerializeToString()), "column_of_logits", PAD_ID, "cpu")
    runs.capture(buckets_of(SHAPE), samples(), TOLERANCE)
    assert runs.run(samples(3, 8)).shape == (3, 1)


def scores(engine):
    texts = [("shoes", "Shoes"), ("cup", "Red ceramic cup"), ("zapatos", "Sports,Running Shoes")]
    return engine.logits(engine.tokenizer.encode_pairs(texts)).tolist()


def test_an_engine_captures_as_it_warms_up_and_scores_the_same(tmp_path):
    tiny_bundle(tmp_path / "qc")
    engine = Engine(Bundle.open(tmp_path / "qc"), device="cpu")
    expected = scores(engine)
    engine._graphs, engine._gpu = engine._graph_runner(), GpuOptions(SHAPE, cuda_graphs=True)  # as on a GPU
    engine.warm_up(SHAPE)
    assert engine._graphs.buckets == tuple(buckets_of(SHAPE))
    assert scores(engine) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is a GPU's memory")
def test_an_engine_that_cannot_capture_says_so_and_scores_without(tmp_path, caplog):
    tiny_bundle(tmp_path / "qc")
    engine = Engine(Bundle.open(tmp_path / "qc"), device="cpu")
    expected = scores(engine)
    engine.device, engine._gpu = "cuda", GpuOptions(SHAPE, cuda_graphs=True)
    engine._graphs = engine._graph_runner()  # wants memory of a GPU, which this onnxruntime has none of
    with caplog.at_level(logging.WARNING):
        engine.warm_up(SHAPE)
    assert [record.getMessage()[:17] for record in caplog.records] == ["cuda_graphs: off:"]
    assert engine._graphs.buckets == ()
    assert scores(engine) == expected


def test_an_engine_on_the_cpu_says_that_there_are_no_graphs(tmp_path, caplog):
    tiny_bundle(tmp_path / "qc")
    with caplog.at_level(logging.WARNING):
        engine = Engine(Bundle.open(tmp_path / "qc"), device="cpu", gpu=GpuOptions(SHAPE, cuda_graphs=True))
    assert "cuda_graphs: no effect on the CPU" in caplog.text
    assert engine.warm_up(SHAPE)


def test_calls_are_made_on_one_thread_and_their_errors_come_back():
    thread = DeviceThread("test")
    names = [thread.call(lambda: threading.current_thread().name) for _ in range(3)]
    assert names == ["test"] * 3

    def fail():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        thread.call(fail)
    assert thread.call(lambda: 7) == 7
