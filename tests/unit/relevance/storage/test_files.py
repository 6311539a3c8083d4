import contextlib
import multiprocessing
import os

import pytest

from relevance.storage.files import whole_file, whole_folder


def test_a_failed_file_leaves_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with contextlib.suppress(RuntimeError), whole_file(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_another_whole(tmp_path):
    target = tmp_path / "deep" / "folder"
    for text in ("old", "new"):
        with whole_folder(target) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    with contextlib.suppress(RuntimeError), whole_folder(tmp_path / "f") as folder:
        (folder / "x").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def _make(path, name):
    with whole_folder(path) as folder:
        (folder / "who").write_text(name)


def test_processes_that_make_one_folder_at_once_all_end_well(tmp_path):
    context = multiprocessing.get_context("spawn")
    makers = [context.Process(target=_make, args=(tmp_path / "f", str(i))) for i in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0] * 4
    assert (tmp_path / "f" / "who").read_text() in "0123"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("leads_to", ["old", "nowhere"])
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, leads_to):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept").touch()
    for name, make in (("folder", whole_folder), ("file", whole_file)):
        (tmp_path / name).symlink_to(leads_to)
        with make(tmp_path / name) as beside:
            (beside / "new" if name == "folder" else beside).write_text("new")
    assert (tmp_path / "folder" / "new").read_text() == (tmp_path / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["kept"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_new_files_have_the_mode_that_the_user_asks_for(tmp_path, umask, mode):
    (tmp_path / "kept").touch(0o640)
    (tmp_path / "kept").chmod(0o640)
    before = os.umask(umask)
    try:
        for name in ("new", "kept"):
            with whole_file(tmp_path / name) as beside:
                beside.write_text("x")
        with whole_folder(tmp_path / "f") as folder:
            (folder / "x").touch(0o600)
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "kept", "f", "f/x")]
    assert modes == [mode, 0o640, mode | (mode & 0o444) >> 2, mode]
