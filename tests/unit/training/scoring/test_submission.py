import json
import zipfile

import pytest

from relevance.errors import InputError
from relevance.tasks import Task
from training.scoring.submission import check_submission, write_submission


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_line_a_row_with_numbers_for_ids_that_are_numbers(tmp_path):
    write_submission(tmp_path / "s.zip", Task.QI, [("7", 1), ("007", 0), ("a", 1), ("1" * 20, 0)])
    lines = members(tmp_path / "s.zip")["submit_QI.txt"].splitlines()
    assert lines[0] == '{"id": 7, "prediction": 1}'
    assert [json.loads(line)["id"] for line in lines] == [7, "007", "a", "1" * 20]


def test_the_other_task_stays_and_ones_own_is_replaced(tmp_path):
    path = tmp_path / "s.zip"
    write_submission(path, Task.QC, [("1", 1)])
    write_submission(path, Task.QI, [("1", 0)])
    write_submission(path, Task.QC, [("2", 0)])
    assert members(path) == {
        "submit_QC.txt": '{"id": 2, "prediction": 0}\n',
        "submit_QI.txt": '{"id": 1, "prediction": 0}\n',
    }


def test_equal_predictions_give_equal_bytes_in_any_order_of_tasks(tmp_path):
    for name, tasks in (("a.zip", [Task.QC, Task.QI]), ("b.zip", [Task.QI, Task.QC])):
        for task in tasks:
            write_submission(tmp_path / name, task, [("1", 1)])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_error_midway_leaves_the_old_zip(tmp_path):
    write_submission(tmp_path / "s.zip", Task.QC, [("1", 1)])
    before = (tmp_path / "s.zip").read_bytes()

    def breaking():
        yield "1", 0
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_submission(tmp_path / "s.zip", Task.QC, breaking())
    assert (tmp_path / "s.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.zip"]


def test_a_foreign_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("photos.txt", "mine")
    with pytest.raises(InputError, match=r"photos\.txt"):
        write_submission(tmp_path / "s.zip", Task.QC, [("1", 1)])
    assert members(tmp_path / "s.zip") == {"photos.txt": "mine"}


@pytest.mark.parametrize("content", [b"no zip", b""])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "s.zip").write_bytes(content)
    with pytest.raises(InputError, match="expected a zip"):
        check_submission(tmp_path / "s.zip")


def test_a_damaged_zip_is_refused(tmp_path):
    write_submission(tmp_path / "s.zip", Task.QC, [(str(i), i % 2) for i in range(500)])
    content = bytearray((tmp_path / "s.zip").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "s.zip").write_bytes(content)
    with pytest.raises(InputError, match="submission"):
        check_submission(tmp_path / "s.zip")
