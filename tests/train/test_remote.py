"""Run folders on other file systems: killed anywhere, out of reach for a while or for good, and hostile."""

import gc
import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from torch import nn

from neuropil.train import RemoteError, Run, RunError, fit, local_copy, remote, working_copy

MEASURED = ("seconds", "peak_memory_bytes")
URL = "memory://bucket/runs/a"


class Killed(BaseException):
    """Stands for the kill: nothing may catch it."""


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch, tmp_path_factory):
    """Let nothing lie in memory, nobody wait, and working copies be seen."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("copies")))


@pytest.fixture(scope="module")
def whole(few_digits):
    return train(few_digits, None)


def train(dataset, run, epochs=3):
    net = nn.Sequential(nn.Flatten(), nn.utils.skip_init(nn.Linear, 64, 10))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    return net, fit(net, dataset, optimizer, epochs=epochs, batch_size=64, run=run)


def told(history):
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in history]


def assert_same_end(run, whole):
    assert all(torch.equal(a, b) for a, b in zip(run[0].parameters(), whole[0].parameters(), strict=True))
    assert told(run[1].history) == told(whole[1].history)


def names(url=URL):
    fs, root = fsspec.core.url_to_fs(url)
    return {path[len(root) + 1 :] for path in fs.find(root)}


def dying(patch, countdown, error=Killed):
    """Have memory raise before, in the middle of, and after whatever it is asked to write, when its time has come."""

    def tick():
        countdown[0] -= 1
        if countdown[0] <= 0:
            raise error

    def wrap(name, half):
        function = getattr(MemoryFileSystem, name)

        def wrapped(self, *args, **kwargs):
            tick()
            if countdown[0] == 1 and half:
                half(self, function, *args)
                tick()
            function(self, *args, **kwargs)
            tick()

        patch.setattr(MemoryFileSystem, name, wrapped)

    wrap("pipe_file", lambda fs, put, path, content: put(fs, path, content[: len(content) // 2]))
    wrap("put_file", lambda fs, put, here, path: fs.store.__setitem__(path, half_of(fs, here, path)))
    wrap("cp_file", None)
    wrap("rm_file", None)


def half_of(fs, here, path):
    content = Path(here).read_bytes()
    return fsspec.implementations.memory.MemoryFile(fs, path, content[: len(content) // 2])


def test_killed_at_every_write(few_digits, whole):
    stop, n_finished = -3, 0
    while not n_finished:
        stop += 4
        MemoryFileSystem.store.clear()
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, [stop])
            try:
                train(few_digits, Run(URL, {"a": 1}))
                n_finished = 1
            except Killed:
                pass
        run = Run(URL, {"a": 1})
        assert_same_end(train(few_digits, run), whole)
        run.finish({"b": 2})
        left = {name for name in names() if not name.endswith(".partial")}
        assert left == {
            "recipe.yaml", "environment.json", "metrics.jsonl", "summary.json", "checkpoint-00003.safetensors"
        }  # fmt: skip
    assert stop > 40


@pytest.mark.parametrize("url", ["file://{}/x", "dir::file://{}/x", URL])
def test_goes_on_from_what_lies_there(few_digits, whole, tmp_path, url):
    url = url.format(tmp_path)
    train(few_digits, Run(url, {"a": 1}), epochs=2)
    assert {f"checkpoint-0000{n}.safetensors" for n in (1, 2)} < names(url)
    run = Run(url, {"a": 1})
    assert len(run.metrics()) == 2
    end = train(few_digits, run)
    assert_same_end(end, whole)
    run.finish({"b": 2})
    assert "checkpoint-00002.safetensors" not in names(url)
    done = Run(url, {"a": 1})
    assert done.summary == {"b": 2}
    assert not list(done.folder.glob("checkpoint*"))  # nobody needs it
    with pytest.raises(RunError, match=f"{url} belongs to another recipe: a is 1 there and 2 here"):
        Run(url, {"a": 2})


def test_copies_go_when_all_is_sent(few_digits):
    run = Run(URL, {})
    folder = run.folder
    run.finish({})
    assert folder.is_dir()
    del run
    gc.collect()
    assert not folder.exists()


def test_what_fails_for_a_moment_is_tried_again(few_digits, whole, monkeypatch, caplog):
    fails = {"n": 0}
    put = MemoryFileSystem.pipe_file

    def pipe_file(self, path, content):
        fails["n"] += 1
        if fails["n"] % 3:  # two of three
            raise ConnectionResetError("come back later")
        put(self, path, content)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    run = Run(URL, {})
    assert_same_end(train(few_digits, run), whole)
    run.finish({})
    assert not caplog.records
    assert json.loads(MemoryFileSystem().cat_file("/bucket/runs/a/summary.json")) == {}


def test_what_stays_away_is_said_once_and_nothing_is_lost(few_digits, whole, caplog):
    run = Run(URL, {"a": 1})
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        dying(patch, [0], OSError("no route to host"))
        end = train(few_digits, run)
        assert_same_end(end, whole)
        sentence = f"{URL} cannot be written: no route to host; work goes on in {run.folder}, and is sent later"
        assert [record.getMessage() for record in caplog.records] == [sentence]
        with pytest.raises(RemoteError, match=f"no route to host; what is done lies in {run.folder}: copy it there"):
            run.finish({"b": 2})
    folder = run.folder
    del run
    gc.collect()
    assert (folder / "summary.json").is_file()  # nothing else has it
    shutil.copytree(folder, folder.parent / "by hand")
    assert Run(folder.parent / "by hand", {"a": 1}).summary == {"b": 2}


def test_comes_back_in_the_middle(few_digits, whole, caplog):
    run = Run(URL, {})
    with pytest.MonkeyPatch.context() as patch:
        dying(patch, [0], OSError)
        train(few_digits, run, epochs=2)
    assert "metrics.jsonl" not in names()
    assert_same_end(train(few_digits, run), whole)
    assert "checkpoint-00003.safetensors" in names()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nope://x/y", "nope://x/y must be a folder that fsspec can write, got: Protocol not known: nope"),
        ("s3://bucket/x", "s3://bucket/x must be a folder that fsspec can write, got: Install s3fs"),
    ],
)
def test_unusable_urls(url, sentence):
    if url.startswith("s3") and find_spec("s3fs"):
        pytest.skip("s3fs is there")
    with pytest.raises(RemoteError, match=sentence):
        Run(url, {})


def test_out_of_reach_at_the_start(monkeypatch):
    def find(*_, **__):
        raise TimeoutError("took too long")

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with pytest.raises(RemoteError, match=f"{URL} cannot be read: took too long"):
        Run(URL, {})


def test_hostile_names_lead_nowhere(tmp_path, caplog):
    fs, root = fsspec.core.url_to_fs(URL)
    evil = ["../evil.json", "a/../../../evil.json", "/evil.json", "b\\..\\evil.json", "c\n.json"]
    found = [f"{root}/{name}" for name in [*evil, "fold/metrics.jsonl"]] + ["/elsewhere/recipe.yaml"]
    fs.pipe_file(f"{root}/fold/metrics.jsonl", b'{"epoch": 1}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "find", lambda *_, **__: found)
        copy = local_copy(URL)
    assert [path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()] == ["fold/metrics.jsonl"]
    assert not list(copy.parent.glob("*evil*"))
    assert len(caplog.records) == len(evil)


def test_a_folder_that_holds_other_things_is_refused():
    fs, root = fsspec.core.url_to_fs(URL)
    fs.pipe_file(f"{root}/holiday.jpg", b"")
    with pytest.raises(RunError, match=f"Run: {URL} must be empty or a run's, got one that holds other things"):
        Run(URL, {})


def test_a_working_copy_is_kept_in_step(monkeypatch):
    monkeypatch.setattr(remote, "_EVERY", 0.01)
    fs, root = fsspec.core.url_to_fs(URL)
    fs.pipe_file(f"{root}/b/failure.json", b"{}")
    fs.pipe_file(f"{root}/b/notes.jpg", b"keep")
    with working_copy(URL) as folder:
        (folder / "b" / "failure.json").unlink()
        (folder / "c").mkdir()
        (folder / "c" / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
        (folder / "c" / "lock").touch()
        for _ in range(500):
            if fs.exists(f"{root}/c/metrics.jsonl"):
                break
            remote.time.sleep(0.01)
        assert fs.cat_file(f"{root}/c/metrics.jsonl") == b'{"epoch": 1}\n'
        assert remote.remote_of(folder / "c") == f"{URL}/c"
        (folder / "c" / "summary.json").write_text("{}")
    assert names() == {"b/notes.jpg", "c/metrics.jsonl", "c/summary.json"}


def test_paths_of_this_machine_stay_what_they_are(tmp_path):
    with working_copy(tmp_path) as folder:
        assert folder == tmp_path
    assert local_copy(str(tmp_path)) == tmp_path
    assert Run(tmp_path / "run", {}).folder == tmp_path / "run"
    assert remote.remote_of(tmp_path) is None
