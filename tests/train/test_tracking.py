"""What TensorBoard and MLflow hold of a run is what its records say, once each, however often it was interrupted."""

import importlib.util
import logging
import socket
import threading
import time

import pytest
import torch

from neuropil.train import MLflow, Run, TensorBoard, fit
from neuropil.train.tracking import Sender, numbers

pytest.importorskip("tensorboard", reason="neuropil[tracking] is not installed")
pytest.importorskip("mlflow", reason="neuropil[tracking] is not installed")
PARAMETERS = {"seed": 0, "model": {"hidden": [32], "patches": None}}


def train(build, digits, *, epochs, run=None, trackers=()):
    net = build()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    return fit(net, digits, optimizer, epochs=epochs, batch_size=32, run=run, trackers=trackers), net


def scalars(folder):
    """All scalars of a folder of event files: by name, (step, value) in the order in which they were written."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }, events


class Store:
    """MLflow's side of one experiment."""

    def __init__(self, uri, experiment):
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.runs = self.client.search_runs([self.client.get_experiment_by_name(experiment).experiment_id])

    def history(self, name):
        found = self.client.get_metric_history(self.runs[0].info.run_id, name)
        return [(metric.step, metric.value) for metric in found]


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_run_that_is_resumed_is_tracked_once(kind, both_kernels, few_digits, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())

    def tracker():
        if kind == "tensorboard":
            return TensorBoard(tmp_path / "board", PARAMETERS)
        return MLflow("digits", "mixer/seed-0", PARAMETERS)

    class Stopped(BaseException):
        pass

    class Stopping(Run):
        def save(self, epoch, *args):
            super().save(epoch, *args)
            if epoch == 2:
                raise Stopped

    first = tracker()
    with pytest.raises(Stopped):
        train(both_kernels, few_digits, epochs=4, run=Stopping(tmp_path / "run", {"seed": 0}), trackers=[first])
    first._sender.close()
    result, net = train(
        both_kernels, few_digits, epochs=4, run=Run(tmp_path / "run", {"seed": 0}), trackers=[tracker()]
    )
    train(both_kernels, few_digits, epochs=4, run=Run(tmp_path / "run", {"seed": 0}), trackers=[tracker()])
    if kind == "tensorboard":
        found, events = scalars(tmp_path / "board")
        text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
        assert "patches: null" in text
        history = found.__getitem__
        assert {name for name in found if not name.startswith("final/")} == set(numbers(result.history[0]))
    else:
        store = Store(MLflow("digits", "").uri, "digits")
        (run,) = store.runs
        assert run.data.params == {"seed": "0", "model.hidden": "[32]", "model.patches": "null"}
        assert (run.info.run_name, run.info.status) == ("mixer/seed-0", "FINISHED")
        history = store.history
    for name, values in {
        key: [(record["epoch"], numbers(record)[key]) for record in result.history]
        for key in numbers(result.history[0])
    }.items():
        assert history(name) == [(epoch, pytest.approx(value, rel=1e-6)) for epoch, value in values]
    assert any(name.startswith("dead/") for name in numbers(result.history[0]))
    assert history("final/test_accuracy") == [(4, pytest.approx(result.test_accuracy, rel=1e-6))]
    _, other = train(both_kernels, few_digits, epochs=4)
    assert all(map(torch.equal, net.state_dict().values(), other.state_dict().values()))


def test_a_server_that_is_not_there_is_told_once(both_kernels, few_digits, caplog):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        tracker = MLflow("digits", "a run", uri=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with caplog.at_level(logging.WARNING, "neuropil.train.tracking"):
            result, _ = train(both_kernels, few_digits, epochs=3, trackers=[tracker])
    assert (result.status, len(result.history)) == ("finished", 3)
    (record,) = caplog.records
    assert "training goes on" in record.getMessage()
    assert "does not answer" in record.getMessage()


def test_a_server_that_hangs_holds_nobody_up(caplog):
    answers, sender = threading.Event(), Sender()
    begun = time.perf_counter()
    for _ in range(100):
        sender.send(answers.wait)
    assert time.perf_counter() - begun < 1
    with caplog.at_level(logging.WARNING, "neuropil.train.tracking"):
        sender.close(patience=0.1)
    answers.set()
    (record,) = caplog.records
    assert "the run folder has everything" in record.getMessage()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TensorBoard("board"), "TensorBoard needs the package tensorboard, which is missing"),
        (lambda: MLflow("digits", "a run"), "MLflow needs the package mlflow-skinny, which is missing"),
    ],
)
def test_a_missing_extra_is_one_sentence(make, sentence, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"{sentence}; try pip install 'neuropil\\[tracking\\]'"):
        make()
