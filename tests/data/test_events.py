"""Events of cameras and cochleas, counted by hand and by a naive loop."""

import subprocess
import sys

import numpy as np
import pytest
import tonic
import torch

from neuropil.data import DataError, event_batches, event_frames

SENSOR = (3, 2, 2)  # w, h, p


def events_of(rows, names="xytp", dtype="i8"):
    return np.array([tuple(row) for row in rows], dtype=[(name, dtype) for name in names])


def drawn(rng, n=200, sensor_size=SENSOR, duration=1000):
    w, h, p = sensor_size
    events = np.zeros(n, dtype=[("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
    for name, limit in (("x", w), ("y", h), ("t", duration), ("p", p)):
        events[name] = rng.integers(0, limit, n)
    events["t"] += 12345
    return events


def naive(events, sensor_size, steps=None, window=None):
    """Event by event, as the docstring says."""
    w, h, p = sensor_size
    first, last = int(events["t"].min()), int(events["t"].max())
    n_steps = steps or (last - first) // window + 1
    frames = torch.zeros(n_steps, p, h, w)
    for event in events:
        past = int(event["t"]) - first
        step = steps * past // (last - first + 1) if steps else past // window
        frames[step, int(event["p"]), event["y"], event["x"]] += 1
    return frames


def test_known_events_in_known_steps():
    rows = [(0, 0, 100, 0), (2, 1, 104, 1), (2, 1, 104, 1), (1, 0, 105, 0), (1, 1, 109, 1)]
    frames = event_frames(events_of(rows), sensor_size=SENSOR, steps=2)
    expected = torch.zeros(2, 2, 2, 3)
    expected[0, 0, 0, 0] = 1
    expected[0, 1, 1, 2] = 2
    expected[1, 0, 0, 1] = 1
    expected[1, 1, 1, 1] = 1
    assert frames.dtype == torch.float32
    assert torch.equal(frames, expected)
    assert torch.equal(event_frames(events_of(rows), sensor_size=SENSOR, steps=2, binary=True), expected.clamp(max=1))
    # in windows of 5 the same, in windows of 4 the last event has one of its own
    assert torch.equal(event_frames(events_of(rows), sensor_size=SENSOR, window=5), expected)
    assert event_frames(events_of(rows), sensor_size=SENSOR, window=4).sum((1, 2, 3)).tolist() == [1, 3, 1]


@pytest.mark.parametrize("duration", [1, 2, 7, 1000, 10**7])
@pytest.mark.parametrize("size", [SENSOR, (5, 1, 2), (1, 1, 2), (4, 3, 3)], ids=str)
def test_equals_a_naive_loop(size, duration, rng):
    events = drawn(rng, sensor_size=size, duration=duration)
    events = events.astype([("x", "i4"), ("y", "u1"), ("t", "u8"), ("p", "i1")]) if size[2] == 3 else events
    for how in [{"steps": steps} for steps in (1, 2, 3, 7, 50)] + [{"window": duration // k + 1} for k in (1, 3, 10)]:
        frames = event_frames(events, sensor_size=size, **how)
        assert frames.sum() == len(events)  # none is lost
        assert torch.equal(frames, naive(events, size, **how)), how


def test_events_in_any_order_and_left_as_they_are(rng):
    events = drawn(rng)
    before = events.copy()
    frames = event_frames(events, sensor_size=SENSOR, steps=5)
    assert np.array_equal(events, before)
    assert torch.equal(event_frames(np.sort(events, order="t"), sensor_size=SENSOR, steps=5), frames)


def test_cochleas_have_one_row_and_one_polarity():
    events = events_of([(0, 5, 1), (3, 9, 1)], names="xtp")
    frames = event_frames(events, sensor_size=(4, 1, 1), steps=2)
    assert frames.flatten(1).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert events["p"].tolist() == [1, 1]


# Batches


def test_batches_of_steps(rng):
    recordings = [(drawn(rng), label) for label in range(5)]
    batches = list(event_batches(recordings, sensor_size=SENSOR, steps=6, batch_size=2))
    assert [tuple(spikes.shape) for spikes, _ in batches] == [(6, 2, 12), (6, 2, 12), (6, 1, 12)]
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == [0, 1, 2, 3, 4]
    assert labels.dtype == torch.int64
    spikes = torch.cat([spikes for spikes, _ in batches], dim=1)
    for i, (events, _) in enumerate(recordings):
        assert torch.equal(spikes[:, i], naive(events, SENSOR, steps=6).flatten(1))
    (images, _), *_ = event_batches(recordings, sensor_size=SENSOR, steps=6, batch_size=5, flatten=False)
    assert images.shape == (6, 5, 2, 2, 3)
    assert torch.equal(images.flatten(2), spikes)


def test_batches_of_windows_are_padded_in_time(rng):
    recordings = [(drawn(rng, duration=duration), 0) for duration in (100, 1000, 300)]
    ((spikes, _),) = event_batches(recordings, sensor_size=SENSOR, window=100, batch_size=3, binary=True)
    lengths = [len(naive(events, SENSOR, window=100)) for events, _ in recordings]
    assert lengths == [1, 10, 3]
    assert spikes.shape == (10, 3, 12)
    assert spikes.unique().tolist() == [0, 1]
    for i, (events, _) in enumerate(recordings):
        assert torch.equal(spikes[: lengths[i], i], naive(events, SENSOR, window=100).flatten(1).clamp(max=1))
        assert not spikes[lengths[i] :, i].any()


def test_a_random_order_is_drawn_at_the_call(rng):
    recordings = [(drawn(rng, n=5), np.int64(label)) for label in range(20)]

    def order(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = event_batches(recordings, sensor_size=SENSOR, steps=2, batch_size=8, generator=generator)
        assert not torch.equal(generator.get_state(), torch.Generator().manual_seed(seed).get_state())
        return torch.cat([labels for _, labels in batches]).tolist()

    assert order(0) == order(0) != order(1)
    assert sorted(order(0)) == list(range(20))


def test_data_sets_of_tonic(rng):
    class Recordings(tonic.Dataset):
        def __init__(self):
            super().__init__("nowhere")
            self.data = [drawn(rng) for _ in range(3)]

        def __len__(self):
            return len(self.data)

        def __getitem__(self, index):
            return self.data[index], index

    recordings = Recordings()
    for dataset in (recordings, tonic.MemoryCachedDataset(recordings)):
        ((spikes, labels),) = event_batches(dataset, sensor_size=SENSOR, steps=4, batch_size=3)
        assert torch.equal(spikes[:, 1], naive(recordings.data[1], SENSOR, steps=4).flatten(1))
        assert labels.tolist() == [0, 1, 2]


# What is refused

GOOD = events_of([(0, 0, 1, 0)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 2.0}, "steps must be a whole number of at least 1, got 2.0"),
        ({"window": -5}, "window must be a whole number of at least 1, got -5"),
        ({}, "either steps or window must be given, got neither"),
        ({"steps": 1, "window": 1}, "either steps or window must be given, got both"),
        ({"steps": 1, "sensor_size": (3, 0, 2)}, "sensor_size must be (w, h, p), whole numbers of at least 1, got (3, 0, 2)"),
        ({"steps": 1, "sensor_size": (3, 2)}, "sensor_size must be (w, h, p), whole numbers of at least 1, got (3, 2)"),
        ({"steps": 1, "sensor_size": None}, "sensor_size must be (w, h, p), whole numbers of at least 1, got None"),
    ],
)  # fmt: skip
def test_arguments_out_of_range(arguments, message):
    arguments = {"sensor_size": SENSOR} | arguments
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the message is compared whole)
        event_frames(GOOD, **arguments)
    assert str(raised.value) == f"event_frames: {message}"
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        event_batches([(GOOD, 0)], batch_size=1, **arguments)
    assert str(raised.value) == f"event_batches: {message}"


def test_a_batch_size_below_1():
    with pytest.raises(ValueError, match=r"^event_batches: batch_size must be at least 1, got 0$"):
        event_batches([(GOOD, 0)], sensor_size=SENSOR, steps=1, batch_size=0)


@pytest.mark.parametrize(
    ("events", "size", "message"),
    [
        (np.zeros((3, 4)), SENSOR, " must be a structured array with the fields x, y, t, p, got none"),
        ([1, 2], SENSOR, " must be a structured array with the fields x, y, t, p, got none"),
        (events_of([(0, 1, 0)], "xtp"), SENSOR, " must be a structured array with the fields x, y, t, p, got x, t, p"),
        (events_of([(0, 0)], "xt"), (3, 1, 1), " must be a structured array with the fields x, t, p, got x, t"),
        (GOOD[:0], SENSOR, " must have at least one event in a row, got shape [0]"),
        (GOOD[:, None], SENSOR, " must have at least one event in a row, got shape [1, 1]"),
        (events_of([(0, 0, 0.5, 0)], dtype="f8"), SENSOR, ": x must be whole numbers, got float64"),
        (
            np.array([(0, 0.5, 0)], dtype=[("x", "i8"), ("t", "f8"), ("p", "i8")]),
            (3, 1, 1),
            ": t must be whole numbers, got float64; try microseconds",
        ),
        (events_of([(0, 0, 1, 0), (3, 0, 1, 0)]), SENSOR, ": x must lie in 0 to 2 for sensor_size=(3, 2, 2), got 0 to 3"),
        (events_of([(0, -1, 1, 0)]), SENSOR, ": y must lie in 0 to 1 for sensor_size=(3, 2, 2), got -1 to -1"),
        (events_of([(0, 0, 1, -1), (0, 0, 1, 1)]), SENSOR, ": p must lie in 0 to 1 for sensor_size=(3, 2, 2), got -1 to 1"),
        (
            events_of([(0, 0, 1, 0), (0, 0, 1, 1)]),
            (3, 2, 1),
            ": p must be the same for all events of a sensor with one polarity, got both 0 and 1",
        ),
    ],
)  # fmt: skip
def test_recordings_that_are_none(events, size, message):
    with pytest.raises(DataError) as raised:
        event_frames(events, sensor_size=size, steps=2)
    assert str(raised.value) == f"event_frames{message}"
    good = events_of([(0, 0, 1, 0)])
    batches = event_batches([(good, 0), (events, 0)], sensor_size=size, steps=2, batch_size=1)
    next(batches)
    with pytest.raises(DataError) as raised:
        next(batches)
    assert str(raised.value) == f"event_batches: recording 1{message}"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (GOOD, " must be a pair of events and label, got ndarray"),
        ((GOOD, 1, 2), " must be a pair of events and label, got tuple"),
        ((GOOD, "cat"), ": label must be a whole number, got 'cat'; try the data set's target_transform"),
        ((GOOD, [1, 2]), ": label must be a whole number, got [1, 2]; try the data set's target_transform"),
    ],
)
def test_samples_that_are_none(sample, message):
    with pytest.raises(DataError) as raised:
        next(event_batches([sample], sensor_size=SENSOR, steps=1, batch_size=1))
    assert str(raised.value) == f"event_batches: recording 0{message}"


def test_many_events_in_one_place():
    assert float(event_frames(np.repeat(GOOD, 2**16), sensor_size=SENSOR, steps=1).max()) == 2**16


def test_a_damaged_time_asks_for_no_memory():
    events = events_of([(0, 0, 0, 0), (0, 0, 2**62, 0)])
    with pytest.raises(DataError, match=r"must fit into 1,073,741,824 counts, got [\d,]+ steps; try a longer window"):
        event_frames(events, sensor_size=SENSOR, window=10)


def test_data_does_not_load_it():
    code = "import sys, neuropil.data; print('tonic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
