import contextlib
import multiprocessing

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
