"""Where runs are done: every engine does the same work, replaces lost processes, and tells how far it is."""

import os
import signal
import socket
import sys
import time

import numpy as np
import pytest

from neuropil.compare import engines
from neuropil.compare.arms import expand_arms
from neuropil.compare.comparison import compare, list_tasks
from neuropil.compare.engines import ATTEMPTS, check_engine, open_engine
from neuropil.compare.parallel import do_tasks
from neuropil.compare.recipe import parse_recipe
from neuropil.train.run import read_metrics


@pytest.fixture
def recipe():
    return parse_recipe(
        {
            "name": "small",
            "question": "Does it run?",
            "model": {"hidden": [64, 64]},
            "training": {"epochs": 2, "batch_size": 64},
            "seeds": 1,
            "arms": {"mixer": {"pattern": "mixer", "n_groups": 4}},
        }
    )


@pytest.fixture(scope="module")
def ray():
    """A Ray cluster of this machine, for all tests."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(params=["local", "ray"])
def on(request):
    """Each engine; Ray is started only once it is wanted."""
    if request.param == "ray":
        request.getfixturevalue("ray")
    elif not hasattr(signal, "SIGKILL"):
        pytest.skip("needs SIGKILL")
    return request.param


def told(folder):
    measured = ("seconds", "peak_memory_bytes")
    return [{key: value for key, value in record.items() if key not in measured} for record in read_metrics(folder)]


def test_killed_processes_are_replaced_and_the_others_go_on(on, tmp_path):
    def work(argument, shared, tell):  # local, so that it is sent as it stands
        name, deaths = argument
        with open(tmp_path / name, "a") as file:
            file.write("x")
        tell(len(shared["numbers"]))
        if os.path.getsize(tmp_path / name) <= deaths:
            time.sleep(0.3)  # what was told is under way
            os.kill(os.getpid(), signal.SIGKILL)
        return name, int(shared["numbers"].sum()), os.getpid()

    arguments = [("always", ATTEMPTS + 1), ("never", 0), ("once", 1), ("never again", 0)]
    with open_engine(on, jobs=2) as engine:
        shared = engine.share({"numbers": np.arange(100_000)})
        news = [one for one in engine.do(work, [(a, shared) for a in arguments]) if one is not None]
    ended = {one.index: one.value for one in news if one.kind == "ended"}
    assert [one.index for one in news if one.kind == "lost"] == [0]
    assert {index: value[:2] for index, value in ended.items()} == {
        i: (arguments[i][0], 4_999_950_000) for i in (1, 2, 3)
    }
    assert [os.path.getsize(tmp_path / name) for name, _ in arguments] == [ATTEMPTS, 1, 2, 1]
    assert {one.index for one in news if one.kind == "progress" and one.value == 100_000} >= {0, 2}
    assert os.getpid() not in {value[2] for value in ended.values()}


def test_the_second_run_of_a_process_is_as_the_first(recipe, tmp_path):
    """Same numbers, bit for bit, and about the same memory, though a larger one went before."""
    arms = {arm.name: arm for arm in expand_arms(recipe)}
    large = recipe.model_copy(update={"model": recipe.model.model_copy(update={"hidden": [1024, 1024]})})
    tasks = [
        *list_tasks(recipe, [arms["mixer"]], [0], tmp_path / "first"),
        *list_tasks(large, expand_arms(large)[-1:], [0], tmp_path / "large"),
        *list_tasks(recipe, [arms["mixer"]], [0], tmp_path / "again"),
    ]
    do_tasks(tasks, jobs=1)
    first, _, again = tasks
    assert [task.state for task in tasks] == ["done"] * 3
    assert told(first.folder) == told(again.folder)
    assert len(told(first.folder)) == first.epochs_done == 2
    memory = [task.summary["peak_memory_bytes"] / 2**20 for task in tasks]
    if sys.platform.startswith("linux"):
        assert memory[2] == pytest.approx(memory[0], abs=3)
        assert memory[1] > memory[0] + 8


def test_ray_gives_the_same_runs(ray, recipe, tmp_path):
    seen = []
    tasks = compare(
        recipe, tmp_path / "ray", on="ray", on_progress=lambda t: seen.append([task.epochs_done for task in t])
    )
    assert {task.state for task in tasks} == {"done"}
    assert seen[-1] == [2] * len(tasks)
    alone = list_tasks(recipe, expand_arms(recipe)[:1], [0], tmp_path / "local")
    do_tasks(alone, jobs=1)
    assert told(tasks[0].folder) == told(alone[0].folder)
    assert ray.is_initialized()  # whoever has connected, takes leave


def test_ray_without_a_machine_that_is_large_enough(ray, recipe, tmp_path):
    wording = "^on ray: a machine must have 1 cores and 0.5 GPU for a run, got a cluster without one$"
    with pytest.raises(ValueError, match=wording):
        compare(recipe, tmp_path / "new", on="ray", device="cuda", runs_per_gpu=2)


def test_unknown_engines_and_addresses(monkeypatch, recipe, tmp_path):
    for name in ("slurm", "ray:", "ray://host", "ray://host:port", "http://host:1"):
        with pytest.raises(ValueError, match=f"^on must be local, ray or ray://HOST:PORT, got {name!r}$"):
            check_engine(name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^on ray needs Ray; try pip install 'neuropil\[distributed\]'$"):
        compare(recipe, tmp_path / "new", on="ray")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: engines)
    with pytest.raises(
        ValueError, match="^device must be cpu or cuda with Ray, which hands out the GPUs, got 'cuda:1'"
    ):
        check_engine("ray", "cuda:1")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"^on {address}: nobody answers there .*; try the address that ray start"):
            compare(recipe, tmp_path / "new", on=address)
    assert not (tmp_path / "new").exists()
