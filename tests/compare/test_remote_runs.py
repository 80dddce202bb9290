"""Comparisons that lie on another file system."""

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from neuropil.cli.main import app
from neuropil.compare import compare, expand_arms, load_results, write_report
from neuropil.compare.comparison import list_tasks
from neuropil.compare.execute import execute
from neuropil.compare.recipe import parse_recipe
from neuropil.train import remote

URL = "memory://bucket/runs/digits"


class Killed(BaseException):
    """Stands for the kill: nothing may catch it."""


@pytest.fixture(scope="module")
def recipe():
    return parse_recipe(
        {
            "name": "small",
            "question": "Does it run?",
            "data": {"name": "digits"},
            "model": {"hidden": [16]},
            "training": {"epochs": 2, "batch_size": 128},
            "seeds": 1,
            "arms": {"base": {"pattern": "dense"}},
        }
    )


def test_a_comparison_goes_on_and_is_reported_there(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(remote, "WAITS", ())
    fs, root = fsspec.core.url_to_fs(URL)
    (task,) = list_tasks(recipe, expand_arms(recipe), recipe.seeds, tmp_path)
    put = MemoryFileSystem.put_file

    def put_file(self, here, there):
        if "checkpoint-00002" in there:
            raise Killed
        put(self, here, there)

    # another machine has done an epoch, and was killed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", put_file)
        with pytest.raises(Killed):
            execute(task.recipe, f"{URL}/base/seed-0")
    lines = fs.cat_file(f"{root}/base/seed-0/metrics.jsonl").splitlines()
    assert len(lines) == 2  # the second one's checkpoint is not there

    (done,) = compare(recipe, URL, jobs=1)
    assert done.state == "done"
    after = fs.cat_file(f"{root}/base/seed-0/metrics.jsonl").splitlines()
    assert after[0] == lines[0]  # seconds and all: not done again
    assert after[1] != lines[1]
    assert remote.remote_of(done.folder) == f"{URL}/base/seed-0"

    results = load_results(URL)
    assert results.arms["base"].accuracy.mean == done.summary["test_accuracy"]
    assert write_report(URL).is_file()
    assert b"</html>" in fs.cat_file(f"{root}/report.html")
    assert not [name for name in fs.find(root) if "checkpoint" in name]

    said = CliRunner().invoke(app, ["report", URL])
    assert said.exit_code == 0, said.exception
    assert f"report: {URL}/report.html" in said.stdout
    assert fs.exists(f"{root}/results.csv")
    shown = CliRunner().invoke(app, ["show", f"{URL}/base/seed-0"])
    assert shown.exit_code == 0, shown.exception
    assert "2 of 2" in shown.stdout
    assert f"{URL}/base/seed-0" in shown.stdout


def test_what_is_no_comparison_is_said(monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    with pytest.raises(ValueError, match=f"load_results: {URL} must be the folder of a comparison"):
        load_results(URL)
