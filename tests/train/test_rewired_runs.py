"""A rewired run that is killed and taken up again: same weights, same wiring, same record of events."""

import json

import pytest
import torch

from neuropil import models, rewire
from neuropil.randomness import stream
from neuropil.train import Run, RunError, fit
from neuropil.train.run import read_events

REWIRINGS = {
    "set": lambda: rewire.set_(every=2),
    "rigl": lambda: rewire.rigl(per_epoch=2),
    "hebbian over three steps": lambda: rewire.hebbian(every=5, window=3),
    "momentum over eight steps": lambda: rewire.Rewiring(
        rewire.Magnitude(), rewire.Momentum(window=8), rewire.Schedule(every=5)
    ),
    "chts": lambda: rewire.chts(every=3),
    "srigl": lambda: rewire.srigl(every=3),
    "mest, soft": lambda: rewire.mest(every=3, soft=True),
    "gmp": lambda: rewire.gmp(0.1, every=3, start=0.0),
    "granet": lambda: rewire.granet(0.1, every=3),
    "lottery ticket, redrawn": lambda: rewire.lottery_ticket(0.1, rounds=3, rewind_to=2, redraw=True),
    "top_kast": lambda: rewire.top_kast(0.15, backward_density=0.2, every=3),
}


class Killed(BaseException):
    """Stands for the kill: nothing may catch it."""


def train(dataset, run, rewiring, *, block, epochs=4, kill_after=None):
    net = models.ensemble_net(
        dataset.input_shape, dataset.n_classes, hidden=[32, 32], pattern=models.mixer(2, n_groups=4, block=block)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-4)
    rewirer = rewiring and rewiring.attach(net, optimizer, generator=stream(0, "rewiring"))
    if kill_after is not None:
        save = run.save

        def killed(epoch, *args):
            save(epoch, *args)
            if epoch == kill_after:
                raise Killed

        run.save = killed
    result = fit(net, dataset, optimizer, epochs=epochs, batch_size=16, run=run, rewirer=rewirer)
    return net, optimizer, rewirer, result


def as_text(state):
    return json.dumps(state, default=lambda tensor: tensor.tolist(), sort_keys=True)


@pytest.mark.parametrize("block", [(1, 1), ("group", 1)])
@pytest.mark.parametrize("name", REWIRINGS)
def test_resume_across_events_is_exact(name, block, few_digits, tmp_path):
    whole_run, run = Run(tmp_path / "whole", {}), Run(tmp_path / "killed", {})
    whole = train(few_digits, whole_run, REWIRINGS[name](), block=block)
    for kill_after in (1, 2):
        with pytest.raises(Killed):
            train(few_digits, run, REWIRINGS[name](), block=block, kill_after=kill_after)
        run = Run(tmp_path / "killed", {})
    again = train(few_digits, run, REWIRINGS[name](), block=block)
    assert len(read_events(tmp_path / "whole")) > 2
    assert read_events(tmp_path / "killed") == read_events(tmp_path / "whole")
    for ours, theirs in zip(again[:3], whole[:3], strict=True):
        assert as_text(ours.state_dict()) == as_text(theirs.state_dict())
    assert again[2].summary() == whole[2].summary()
    assert again[3].test_loss == whole[3].test_loss


def test_events_of_epochs_that_run_again_are_dropped(few_digits, tmp_path):
    run = Run(tmp_path, {})
    with pytest.raises(Killed):
        train(few_digits, run, rewire.set_(every=1), block=(1, 1), kill_after=2)
    (newest,) = tmp_path.glob("checkpoint-00002*")
    newest.unlink()
    before = len(read_events(tmp_path))
    train(few_digits, Run(tmp_path, {}), rewire.set_(every=1), block=(1, 1))
    steps = [record["step"] for record in read_events(tmp_path)]
    assert before > 0
    assert len(set(steps)) * 2 == len(steps)  # two layers, each event once
    assert steps == sorted(steps)


def test_no_event_follows_the_last_step(few_digits, tmp_path):
    _, _, rewirer, _ = train(few_digits, Run(tmp_path, {}), rewire.set_(every=1), block=(1, 1), epochs=1)
    n_steps = -(-len(few_digits.train) // 16)
    assert max(event.step for event in rewirer.history) == n_steps - 1


def test_a_checkpoint_of_a_run_without_rewiring_is_refused(few_digits, tmp_path):
    train(few_digits, Run(tmp_path, {}), None, block=(1, 1), epochs=1)
    with pytest.raises(RunError, match=r"must be of a run with rewiring, got one without"):
        train(few_digits, Run(tmp_path, {}), rewire.set_(every=2), block=(1, 1), epochs=2)


def test_a_checkpoint_of_a_rewired_run_is_refused_without_rewiring(few_digits, tmp_path):
    train(few_digits, Run(tmp_path, {}), rewire.set_(every=2), block=(1, 1), epochs=1)
    with pytest.raises(RunError, match=r"must be of a run without rewiring, got one with"):
        train(few_digits, Run(tmp_path, {}), None, block=(1, 1), epochs=2)
