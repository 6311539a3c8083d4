"""`relevance.spark` with a real Spark of this machine: one JVM, one worker, on 127.0.0.1 alone."""

import datetime
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from relevance.errors import BundleError, ConfigError, InputError
from relevance.scorer import Scorer
from relevance.spark import scored
from relevance.tasks import SCORE_FIELDS, Pair
from tests.tiny import tiny_bundle

pytestmark = [
    pytest.mark.skipif(find_spec("pyspark") is None, reason="needs PySpark: pip install '.[spark]'"),
    pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java runtime, 17 or newer"),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Spark's own sockets
]
ROWS = [
    (n, f"red cup {n}" * (n % 3 + 1), "home,cups" if n % 2 else "shoes", ("en", "ja", None)[n % 3], 2**60 + n)
    for n in range(25)
]
NAMES = ["id", "origin_query", "category_path", "language", "large"]


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.memory": "512m",
            "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
            "spark.sql.execution.arrow.maxRecordsPerBatch": "4",
        }
        session = SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
        yield session
        session.stop()


def test_rows_keep_their_columns_and_get_the_scores_of_the_scorer(spark, bundle, tmp_path):
    day = datetime.date(2024, 2, 29)
    rows = spark.createDataFrame([(*row, day, [1, 2]) for row in ROWS], [*NAMES, "day", "sizes"]).repartition(2)
    scored(rows, bundle).write.parquet(str(tmp_path / "scored"))
    found = sorted(spark.read.parquet(str(tmp_path / "scored")).collect(), key=lambda row: row["id"])
    scorer = Scorer.open(bundle, threads=1)
    wanted = scorer.score([Pair(query, path, tag or "unk") for _, query, path, tag, _ in ROWS])
    assert found[0].asDict().keys() == {*NAMES, "day", "sizes", *SCORE_FIELDS}
    assert [tuple(row[:7]) for row in found] == [(*row, day, [1, 2]) for row in ROWS]
    assert [row["score"] for row in found] == pytest.approx(wanted.scores.tolist(), abs=1e-6)
    assert [row["label_predicted"] for row in found] == wanted.labels.tolist()
    assert [row["truncated"] for row in found] == wanted.truncated.tolist()
    assert {row["model_version"] for row in found} == {scorer.manifest.version}


def test_what_is_wrong_is_named(spark, bundle, tmp_path):
    rows = spark.createDataFrame([("cup", "home", 1.0), (" ", "home", 1.0)], ["q", "c", "score"])
    with pytest.raises(InputError, match=r"column 'origin_query' is missing; columns found: \['c', 'q'\]"):
        scored(rows.drop("score"), bundle)
    with pytest.raises(InputError, match=r"has the columns \['score'\] already"):
        scored(rows, bundle, columns={"query": "q", "candidate": "c"})
    with pytest.raises(ConfigError, match=r"columns: \['text'\] unknown"):
        scored(rows, bundle, columns={"text": "q"})
    with pytest.raises(BundleError, match="absent"):
        scored(rows, tmp_path / "absent")
    made = scored(rows, bundle, columns={"query": "q", "candidate": "c"}, prefix="qc_")
    with pytest.raises(Exception, match="1 bad values, expected texts that are not blank: row 1 of the batch, q: ' '"):
        made.collect()  # Spark wraps it in an error of its own


def test_a_bundle_that_changes_before_the_job_runs_ends_it(spark, tmp_path):
    folder = tmp_path / "qc"
    tiny_bundle(folder)
    made = scored(spark.createDataFrame(ROWS, NAMES), folder)
    shutil.rmtree(folder)
    tiny_bundle(folder, seed=1)
    with pytest.raises(Exception, match="differs on an executor from the one of the driver"):
        made.collect()


def test_nothing_imports_spark_unless_asked():
    code = "import relevance.spark, relevance.cli, sys; print({'pyspark', 'ray', 'pyarrow'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
