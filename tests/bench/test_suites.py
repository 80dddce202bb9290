from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from neuropil.bench.contestants import Masked, TorchSparse, TrainingStep, draw
from neuropil.bench.present import SHOW
from neuropil.bench.suites import SUITES, events, layers, measures, networks, rewiring, rules, scale
from neuropil.bench.suites.published import PublishedNet
from neuropil.connect import ErdosRenyi, SparseLinear
from neuropil.connect.kernels import KERNELS
from neuropil.models import spiking_ensemble_net

pytestmark = pytest.mark.usefixtures("_in_this_process")


@pytest.fixture(autouse=True)
def _few_rules(monkeypatch):
    few = ("backpropagation", "counter-current", "feedback-alignment", "equilibrium-propagation", "readout-only")
    monkeypatch.setattr(rules, "RULES", dict.fromkeys(few))


def rows_of(run, settings):
    return [row for rows in run(settings) for row in rows]


def check_rows(rows):
    """Each row has a time or a reason, never neither."""
    assert rows
    for row in rows:
        if "exponent" in row:
            continue
        assert (row.get("median_ms") is None) == (row["reason"] is not None), row
        assert row["reason"] is None or "\n" not in row["reason"]
        if row["reason"] is None:
            assert row["lower_quartile_ms"] <= row["median_ms"] <= row["upper_quartile_ms"]


def test_layers(tiny):
    rows = rows_of(layers.run, replace(tiny, densities=(0.5, 0.1), blocks=("1x1", "groupx1", "16x16")))
    check_rows(rows)
    for density in (0.5, 0.1):
        some = [row for row in rows if row["nominal_density"] == density]
        assert {layers.LINEAR, layers.MASKED, *KERNELS} <= {row["kernel"] for row in some}
        assert next(row for row in some if row["kernel"] == layers.LINEAR)["over_linear"] == 1
        # one kernel a wiring is what a layer chooses by itself
        automatic = [(row["block"], row["pattern"]) for row in some if row.get("is_automatic")]
        assert len(automatic) == len(set(automatic)) >= 3
    reasons = {(row["block"], row["kernel"]): row["reason"] for row in rows if row["reason"]}
    assert "needs blocks larger than one synapse" in reasons["1x1", "blocks"]
    live = next(row for row in rows if row["kernel"] == "blocks" and row["block"] == "groupx1" and not row["reason"])
    assert 0 < live["held_bytes"] < next(row for row in rows if row["kernel"] == layers.LINEAR)["held_bytes"]


def test_a_block_that_does_not_fit_has_its_row(tiny):
    rows = rows_of(layers.run, replace(tiny, sizes=(50,), densities=(0.25,), blocks=("16x16",)))
    check_rows(rows)
    assert any("must be divisible by the block's 16" in (row["reason"] or "") for row in rows)
    assert any(row["kernel"] == layers.LINEAR and row["reason"] is None for row in rows)


def test_bfloat16_layers(tiny):
    rows = rows_of(layers.run, replace(tiny, densities=(0.25,), blocks=("groupx1",), precisions=("bfloat16",)))
    check_rows(rows)
    assert any(row["kernel"] == layers.LINEAR and row["reason"] is None for row in rows)


@pytest.mark.parametrize("block", ["1x1", "groupx1", "16x16"])
@pytest.mark.parametrize("density", [0.5, 0.25625, 0.05])
def test_wirings_have_the_density_that_is_asked_for(block, density):
    wiring = layers.pattern_of(512, density, block).wire(512, 512, generator=torch.Generator().manual_seed(0))
    assert wiring.density == pytest.approx(density, rel=0.1)


@pytest.mark.parametrize("block", [(1, 1), (8, 8)])
def test_torch_sparse_layers_are_the_masked_product(block, generator):
    wiring = ErdosRenyi(0.25, block=block).wire(32, 32, generator=generator)
    layer = TorchSparse(wiring)
    x = torch.randn(3, 32, generator=generator)
    with torch.no_grad():
        y = layer(x)
        dense = layer.matrix().to_dense()
    assert torch.equal(dense != 0, wiring.mask())
    torch.testing.assert_close(y, x @ dense.t())


def test_masked_is_the_layer_that_it_is_made_of(generator):
    layer = SparseLinear(ErdosRenyi(0.25).wire(16, 8, generator=generator), generator=generator)
    x = torch.randn(3, 16, generator=generator)
    torch.testing.assert_close(Masked.of(layer)(x), layer(x))
    linear = torch.nn.Linear(16, 8)
    torch.testing.assert_close(Masked.of(linear)(x), linear(x))
    with pytest.raises(TypeError, match="Masked.of: layer must be a SparseLinear or an nn.Linear, got ReLU"):
        Masked.of(torch.nn.ReLU())


def test_a_training_step_learns():
    layer = torch.nn.Linear(4, 2)
    before = layer.weight.detach().clone()
    step = TrainingStep(layer, draw(3, 4, name="input"), draw(3, 2, name="gradient"))
    step()
    assert not torch.equal(before, layer.weight)
    assert step._x.grad is not None


def test_networks(tiny_rows):
    rows = tiny_rows("networks")
    check_rows(rows)
    for kind in ("rate", "spiking"):
        reference = networks.REFERENCES[kind]
        some = {row["network"]: row for row in rows if row["kind"] == kind}
        assert {reference, *(f"{block} {kernel}" for block in networks.BLOCKS for kernel in KERNELS)} == set(some)
        for block in networks.BLOCKS:  # all kernels compute one network
            same = [row for row in some.values() if row["block"] == block and not row["reason"]]
            for key in ("first_loss", "first_gradient"):
                assert same[0][key] > 0
                assert [row[key] for row in same] == pytest.approx([same[0][key]] * len(same), rel=1e-4)
        assert all(row["peak_bytes"] is not None for row in some.values() if not row["reason"])


def test_variants_are_in_the_full_list(tiny):
    full = networks.list_networks("spiking", 64, 4, 3, "float32", replace(tiny, quick=False))
    by_name = {network.name: network for network in full}
    assert len(by_name) == len(full)
    net = networks.build(by_name["groupx1 events, boxcar"])
    assert {type(unit.surrogate).__name__ for _, unit in net.stages} == {"Boxcar"}
    assert by_name["1x1 events, boxcar, needed"].input_gradient == "needed"
    assert by_name["1x1 events, bfloat16 gradient"].surrogate == "atan"


@pytest.mark.skipif(find_spec("snntorch") is None, reason="snnTorch is not installed")
@pytest.mark.parametrize("neurons", ["learned", "fixed"])
def test_the_published_way_is_our_network(neurons, generator):
    net = spiking_ensemble_net(
        (1, 8, 8), 10, hidden=[64, 64], encoding="current", steps=12, kernel="masked", neurons=neurons
    )  # fmt: skip
    with torch.no_grad():
        for layer, _ in net.stages:
            layer.weight.mul_(4)  # so that the read-out fires
    published = PublishedNet(net)
    images = torch.rand(5, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (5,), generator=generator)
    ours, theirs = net(images), published(images)
    assert ours.sum() > 0
    assert torch.equal(ours, theirs)
    for logits in (ours, theirs):
        torch.nn.functional.cross_entropy(logits, labels).backward()
    for (layer, _), other in zip(net.stages, published.layers, strict=True):
        torch.testing.assert_close(layer.weight.grad, other.weight.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.skipif(find_spec("snntorch") is None, reason="snnTorch is not installed")
def test_the_published_way_starts_as_ours_does():
    make = {"hidden": 64, "batch": 8, "steps": 6, "precision": "float32", "device": "cpu"}
    published = networks.Network("spiking", "snnTorch loop", **make)
    ours = networks.Network("spiking", "1x1 events", block="1x1", kernel="events", **make)
    first = [networks.training_step(network)() for network in (published, ours)]
    assert first[0][:2] == pytest.approx(first[1][:2], rel=1e-4)
    assert first[0][1] > 0


def test_active_networks_fire():
    make = {"hidden": 128, "batch": 8, "steps": 30, "precision": "float32", "device": "cpu"}
    as_they_start, active = (
        networks.training_step(networks.Network(kind, "1x1 events", block="1x1", kernel="events", **make))()
        for kind in ("spiking", "active spiking")
    )
    assert as_they_start[2] < 0.05 < active[2] < 0.2


def test_without_snntorch_the_rest_runs(tiny, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "snntorch", None)
    rows = networks.run_one("spiking", 64, 4, "float32", tiny)
    check_rows(rows)
    assert rows[0]["reason"] == "snnTorch is not installed; try pip install snntorch"
    assert any(row["reason"] is None for row in rows[1:])


def test_events(tiny_rows):
    rows = tiny_rows("events")
    check_rows(rows)
    assert {row["product"] for row in rows} == set(events.PRODUCTS)
    assert {"nn.Linear", "EventLinear", "1x1 events", "groupx1 events"} <= {row["layer"] for row in rows}


def test_rewiring(tiny_rows):
    rows = tiny_rows("rewiring")
    check_rows(rows)
    assert {row["method"] for row in rows} == set(rewiring.QUICK)


def test_a_rewiring_that_fails_has_its_row(tiny, monkeypatch):
    def die(work, case, *, device):
        raise RuntimeError("A process in the process pool was terminated abruptly. More")

    monkeypatch.setattr(rewiring, "in_fresh_process", die)
    rows = rows_of(rewiring.run, tiny)
    check_rows(rows)
    assert rows[0]["reason"] == "A process in the process pool was terminated abruptly"


def test_what_an_event_costs():
    row = rewiring.row_of({
        "seconds": [[1.0, 1.0, 3.0], [2.0, 2.0, 4.0], [1.0, 3.0, 4.0]],
        "peaks": [[5, 7, 10], [6, 6, 9]],
        "density": 0.25,
        "kernel": "masked",
    })  # fmt: skip
    assert (row["step_ms"], row["median_ms"], row["event_over_step"]) == (1000, 2000, 2)
    assert (row["idle_over_plain"], row["peak_above_normal_bytes"]) == (1, 3)


def test_neurons(tiny_rows):
    rows = tiny_rows("neurons")
    check_rows(rows)
    assert {row["kernel"] for row in rows} == {"torch", "numba"}
    assert all(row["of_copy_bandwidth"] > 0 for row in rows)


def test_scale(tiny):
    rows = rows_of(scale.run, replace(tiny, sizes=(128, 192, 256)))
    check_rows(rows)
    trained = [row for row in rows if row["task"] == "train" and row["reason"] is None]
    assert trained
    assert all(row["connections"] == 64 * row["size"] for row in trained)
    assert all(row["bytes_per_connection"] >= 16 for row in trained)  # weight, gradient, two moments
    spiking = [row for row in rows if row["task"] == "spiking" and row["reason"] is None]
    assert spiking
    assert all(row["input_hz"] > 0 for row in spiking)
    assert {row["task"] for row in rows if "exponent" in row} == {"train, fit", "spiking, fit"}


def test_the_exponent_of_a_power():
    assert scale.exponent([(10**e, 3 * 10 ** (1.5 * e)) for e in range(4)]) == pytest.approx(1.5)


def test_emergence_by_connections(tiny, monkeypatch):
    monkeypatch.setattr(measures, "NETWORKS", ())  # without probes
    settings = replace(tiny, sizes=(64, 96, 128))
    threads = torch.get_num_threads()
    rows = rows_of(measures.run, settings)
    assert torch.get_num_threads() == threads
    check_rows(rows)
    for task in (measures.COUNT, measures.RUN):
        some = [row for row in rows if row["task"] == task]
        assert {row["joins"] for row in some} == {*measures.JOINS} - (
            {measures.MASK} if task == measures.RUN else set()
        )
        for row in some:
            wanted = 10 * (row["size"] ** 2 if row["joins"] == measures.FULL else 0.1 * row["size"] ** 2)
            assert row["connections"] == pytest.approx(wanted, rel=0.02)
        assert {row["joins"] for row in rows if row["task"] == f"{task}, fit"} == {row["joins"] for row in some}


@pytest.mark.parametrize("joins", measures.JOINS)
def test_what_is_counted_are_paths(joins):
    wirings = measures.chain_of(joins, 64)
    found = measures.counting(joins, wirings)()
    assert found.n_units == (wirings[0].in_features,) * 11
    assert round(found.emergence / found.relative_to_weights) == sum(wiring.n_connections for wiring in wirings)
    if joins != measures.MASK:
        of_net = measures.running(joins, wirings, 4, "cpu")()
        assert of_net.n_units == found.n_units
        assert round(of_net.emergence / of_net.relative_to_weights) == sum(wiring.n_connections for wiring in wirings)


def test_probes_beside_an_epoch(tiny_rows):
    rows = [row for row in tiny_rows("measures") if row["task"] == "probes"]
    check_rows(rows)
    assert {row["network"] for row in rows} == set(measures.NETWORKS)
    assert [row["probe"] for row in rows[:4]] == [*measures.PROBES, measures.TOGETHER]
    for row in rows:
        assert row["epoch_steps"] == 13_500
        assert 0 < row["of_epoch_lower"] <= row["of_epoch"] <= row["of_epoch_upper"]


def test_shares_are_taken_round_by_round(tiny, monkeypatch):
    seconds = {"training": [1.0, 2.0, 4.0], "activity": [1.0, 4.0, 2.0], "emergence": [1.0, 0.0, 2.0]}
    monkeypatch.setattr(measures, "run_rounds", lambda *_, **__: {key: [*values] for key, values in seconds.items()})
    dataset = measures.made_up_images(12)
    *_, together = measures.time_probes("dense", 64, 4, dataset, replace(tiny, steps=1, rounds=3))
    assert (together["median_ms"], together["epoch_seconds"]) == (4000, 6)  # 3 steps an epoch
    assert together["of_epoch"] == pytest.approx(2 / 3, abs=1e-5)


def test_probes_that_fail_have_their_row(tiny, monkeypatch):
    monkeypatch.setattr(measures, "PROBES", ("topology", "none"))
    rows = measures.time_probes("dense", 64, 4, measures.made_up_images(12), tiny)
    check_rows(rows)
    assert rows[0]["reason"].startswith("probe must be one of emergence, activity")


def test_training_takes_its_steps_across_epochs():
    dataset = measures.made_up_images(10)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    seen = []
    net.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    train = measures.Training(net, dataset, batch=4, steps=2)
    before = net[1].weight.detach().clone()
    train()
    train()
    assert [len(images) for images in seen] == [4, 4, 2, 4]
    assert not torch.equal(before, net[1].weight)
    pixels = dataset.normalize(measures.made_up_images(2000).train.images)
    assert float(pixels.mean()) == pytest.approx(0, abs=0.01)
    assert float(pixels.std()) == pytest.approx(1, abs=0.01)


def test_a_dense_matrix_without_room_is_refused(monkeypatch):
    monkeypatch.setattr(scale, "_MOST_MEMORY", 1e-9)
    with pytest.raises(MemoryError, match="kernel 'masked' keeps a dense matrix, which for 65,536 neurons takes 86 GB"):
        scale.check_memory("masked", 65_536)


def test_neurons_fire_about_as_often_as_their_input(tiny):
    rows = scale.run_spiking(1000, replace(tiny, steps=400, rounds=1))
    row = next(row for row in rows if row["kernel"] == "events")
    assert row["input_hz"] == pytest.approx(5, rel=0.2)
    assert 2 < row["hidden_hz"] < 10
    assert 2 < row["last_hz"] < 10


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_shows_its_rows(name, tiny_rows):
    from rich.console import Console

    rows = tiny_rows(name)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in SHOW[name](rows):
        console.print(part)
    console.file.close()
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text  # nothing was cut for want of room


def test_bfloat16_is_not_timed_where_it_is_no_gain(monkeypatch):
    network = networks.Network(
        "spiking", "x", 8, 2, 2, "float32", "cpu", "groupx1", "events", input_gradient="bfloat16"
    )
    monkeypatch.setattr(networks, "has_bfloat16_units", lambda: False)
    with pytest.raises(ValueError, match="^this processor has no units for bfloat16"):
        networks.training_step(network)
    monkeypatch.setattr(networks, "has_bfloat16_units", lambda: True)
    assert networks.training_step(network)()[0] > 0


def test_rules_are_told_with_their_operations(tiny):
    rows = rows_of(rules.run, tiny)
    check_rows(rows)
    dense = {row["rule"]: row for row in rows if row["network"] == "dense"}
    assert dense["backpropagation"]["of_backpropagation"] == dense["backpropagation"]["flops_of_backpropagation"] == 1
    assert dense["feedback-alignment"]["flops_of_backpropagation"] == pytest.approx(1, abs=0.01)
    assert dense["readout-only"]["flops_of_backpropagation"] < 0.5
    assert all(row["peak_bytes"] >= row["passing_bytes"] > 0 for row in rows)
    assert dense["backpropagation"]["peak_bytes"] > dense["backpropagation"]["passing_bytes"]  # gradients
