"""The `translate` command as processes: real files, a real server, kill -9, and clear words for wrong input."""

import json
import signal
import subprocess
import time

import pytest

from relevance.tasks import Task
from tests import ROOT, SHARED_DATA, commands
from tests.chat_server import chat_server
from training.data.dataset import read_pairs

NO_MODELS = ["--without-gate", "similarity", "--without-gate", "language"]


def command(*arguments, task="qc"):
    return [*commands.RELEVANCE, "translate", *map(str, arguments), "--task", task, *NO_MODELS]


def run(*arguments, task="qc"):
    return commands.run(command(*arguments, task=task), cwd=ROOT)


def refused(*arguments, code=2):
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def write_rows(path, rows):
    common = {"task": "QC", "category_path": "home,cups", "label": 1}
    path.write_text("".join(json.dumps(common | {"id": n} | row) + "\n" for n, row in enumerate(rows)))
    return path


@pytest.fixture
def files(tmp_path):
    """Training rows in English, dev rows in German and a memory of some of them."""
    train = [{"origin_query": f"red cup {n}", "language": "en", "label": n % 2} for n in range(60)]
    write_rows(tmp_path / "train.jsonl", train)
    write_rows(tmp_path / "dev.jsonl", [{"origin_query": "rote tasse 7", "language": "de"}])
    units = [f"red cup {n}\trote tasse {n}" for n in range(40)]
    (tmp_path / "memory.tsv").write_text("\n".join(["en\tde", *units]))
    return tmp_path


def test_a_memory_makes_rows_a_report_and_the_rejected(files):
    done = run(
        *(files / "train.jsonl", files / "out.jsonl", "--like", files / "dev.jsonl"),
        *("--backend", f"memory:{files / 'memory.tsv'}", "--rows-per-language", "20"),
        *("--report", files / "report.json", "--rejected", files / "rejected.jsonl"),
    )
    assert done.returncode == 0, done.stderr
    rows = read_pairs(files / "out.jsonl", Task.QC).rows
    made = [row for row in rows if row.extra.get("source") == "translation"]
    report = json.loads((files / "report.json").read_text())
    assert len(rows) == report["rows_out"] == 80
    assert {row.pair.language for row in made} == {"de"}
    assert sum(row.label for row in made) == 10
    assert "rote tasse 7" not in {row.pair.query for row in made}
    rejected = [json.loads(line) for line in (files / "rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == sum(report["languages"][0]["rejected"].values())
    assert "20 made" in done.stdout


def openai(files, url, *more):
    return (files / "train.jsonl", files / "out.jsonl", "--target", "de", "--backend", f"openai:m@{url}", *more)


QUICK = ["--set", "openai.texts_per_request=3", "--set", "openai.concurrency=2"]


def test_a_run_killed_at_any_moment_ends_like_one_left_alone(files):
    with chat_server() as endpoint:
        assert run(*openai(files, endpoint.url, *QUICK)).returncode == 0
    expected = (files / "out.jsonl").read_bytes()
    for path in (files / "out.jsonl", files / "out.jsonl.translations.sqlite"):
        path.unlink()
    with chat_server(options={"seconds": 0.1}) as endpoint:
        for requests in (2, 7, 12):
            process = subprocess.Popen(
                command(*openai(files, endpoint.url, *QUICK)),
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
            )
            while len(endpoint.log()["requests"]) < requests and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert not (files / "out.jsonl").exists()
        assert run(*openai(files, endpoint.url, *QUICK)).returncode == 0
        asked = endpoint.texts()
    assert (files / "out.jsonl").read_bytes() == expected
    assert len(set(asked)) == 60
    assert len(asked) <= 60 + 3 * 2 * 3 * 2  # a kill loses at most the batches under way


def test_a_second_run_asks_for_nothing(files):
    with chat_server() as endpoint:
        first = run(*openai(files, endpoint.url, "--json"))
        seen = len(endpoint.log()["requests"])
        second = run(*openai(files, endpoint.url, "--json", "--overwrite"))
        assert len(endpoint.log()["requests"]) == seen
    assert json.loads(first.stdout)["made"] == json.loads(second.stdout)["made"] == 60
    assert json.loads(second.stdout)["cache_hits"] == 60
    assert json.loads(second.stdout)["cost"]["requests"] == 0


def test_a_translator_that_is_down_leaves_no_output_but_keeps_its_work(files):
    steps = [{"do": "answer"}] * 3 + [{"do": "status", "code": 503}] * 40
    with chat_server(*steps) as endpoint:
        settings = [*QUICK, "--set", "openai.attempts=2", "--set", "openai.concurrency=1"]
        message = refused(*openai(files, endpoint.url, *settings), code=5)
        assert "HTTP 503" in message
        assert "9 translations are kept" in message
        assert not (files / "out.jsonl").exists()


def test_a_spent_budget_says_so_or_keeps_what_there_is(files):
    settings = [*QUICK, "--set", "openai.budget_tokens=2000"]
    with chat_server() as endpoint:
        assert "budget of 2,000 tokens is spent" in refused(*openai(files, endpoint.url, *settings), code=5)
        (files / "out.jsonl.translations.sqlite").unlink()
        done = run(*openai(files, endpoint.url, *settings, "--at-budget", "keep", "--json"))
    report = json.loads(done.stdout)
    assert 0 < report["made"] < 60
    assert "2,000" in report["stopped"]
    assert report["cost"]["charged_tokens"] <= 2000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--target", "sw"], "target language 'sw': no translator"),
        (["--target", "xx"], "'xx' is no known language"),
        (["--target", "de", "--backend", "google:x"], "expected memory:FILE"),
        (["--target", "de", "--backend", "openai:m@ftp://x"], "no URL"),
        (["--target", "de", "--backend", "openai:m@http://u:p@x/v1"], "user name or password"),
        (["--target", "de", "--backend", "ctranslate2:none"], "none"),
        (["--target", "de", "--sources", "one"], "source_language"),
        (["--target", "de", "--sources", "one", "--source-language", "ja"], "no row has it; expected one of en"),
        (["--target", "de", "--positive-share", "1.5"], "positive_share"),
        (["--target", "de", "--without-gate", "colour"], "no such gate"),
        (["--target", "de", "--set", "openai.speed=3", "--backend", "openai:m@http://x"], "speed"),
        (["--target", "de", "--set", "memory.x=1"], "expected openai.FIELD"),
        ([], "no language that training lacks"),
    ],
)
def test_wrong_options_are_named(files, change, expected):
    backend = [] if "--backend" in change else ["--backend", f"memory:{files / 'memory.tsv'}"]
    message = refused(files / "train.jsonl", files / "out.jsonl", *backend, *change)
    assert expected in message
    assert not (files / "out.jsonl").exists()


def test_broken_memory_lines_are_named_or_left_out(files):
    with (files / "memory.tsv").open("a") as stream:
        stream.write("\nred cup 50\nblue\tblau\tbleu\n")
    arguments = [files / "train.jsonl", files / "out.jsonl", "--target", "de"]
    arguments += ["--backend", f"memory:{files / 'memory.tsv'}"]
    message = refused(*arguments)
    assert "2 bad of 42 rows" in message
    assert "row 42" in message
    assert "row 43" in message
    assert run(*arguments, "--skip-bad-units").returncode == 0


def test_a_run_that_makes_nothing_says_why_and_fails(files):
    (files / "memory.tsv").write_text(
        "en\tde\tpl\nred hat\troter hut\tczerwony kapelusz\nred cup 7\trote tasse 8\tkubek\n"
    )
    message = refused(
        *(files / "train.jsonl", files / "out.jsonl", "--target", "de", "--target", "pl"),
        *("--backend", f"memory:{files / 'memory.tsv'}", "--report", files / "report.json"),
    )
    assert "no row was made" in message
    assert "de: none made of 60 rows; 60 tried: 59 without a translation, 1 rejected by digits" in message
    assert "pl: none made of 60 rows; 60 tried: 59 without a translation, 1 rejected by digits" in message
    assert json.loads((files / "report.json").read_text())["made"] == 0
    assert not (files / "out.jsonl").exists()


def test_the_input_is_not_overwritten(files):
    message = refused(
        files / "train.jsonl", files / "train.jsonl", "--target", "de", "--backend", f"memory:{files / 'memory.tsv'}"
    )
    assert "expected a place apart from it" in message


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs ../shared/data")
def test_the_memory_of_real_queries_reaches_all_absent_languages(tmp_path):
    lines = (SHARED_DATA / "analyticup_qc" / "train_QC.txt").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if json.loads(line)["language"] in {"en", "fr", "es", "ko", "pt", "ja"}]
    (tmp_path / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    memory = SHARED_DATA / "translation_memory" / "qc_queries.jsonl"
    dev = SHARED_DATA / "analyticup_qc" / "dev_QC.txt"
    done = run(
        *(tmp_path / "train.jsonl", tmp_path / "out.jsonl", "--like", dev, "--backend", f"memory:{memory}", "--json")
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [one["target"] for one in report["languages"]] == ["ar", "de", "it", "pl"]
    assert all(one["made"] > 1000 for one in report["languages"])
