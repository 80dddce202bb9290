"""One checkpoint file: what it holds, and that every damage to it is noticed."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from neuropil.connect import Ensembles, SparseLinear, Wiring
from neuropil.train import CheckpointError
from neuropil.train.checkpoint import load_checkpoint, save_checkpoint


def trained(seed=0, width=3):
    """Return a small network and its Adam after one step."""
    generator = torch.Generator().manual_seed(seed)
    wiring = Ensembles(n_groups=2, p_inter=0.5, exact=True, block=("group", 1)).wire(4, 4, generator=generator)
    model = nn.Sequential(SparseLinear(wiring, generator=generator), nn.utils.skip_init(nn.Linear, 4, width))
    for parameter in model[1].parameters():
        nn.init.normal_(parameter, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.randn(5, 4, generator=generator)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def state(model, optimizer):
    return {
        **{name: value.clone() for name, value in model.state_dict().items()},
        **{
            f"{index} {name}": value.clone()
            for index, values in optimizer.state_dict()["state"].items()
            for name, value in values.items()
        },
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture
def path(tmp_path):
    model, optimizer = trained()
    save_checkpoint(tmp_path / "checkpoint", epoch=3, model=model, optimizer=optimizer, scheduler=None)
    return tmp_path / "checkpoint"


def test_everything_comes_back(path):
    model, optimizer = trained(seed=1)
    wiring = model[0].wiring
    optimizer.param_groups[0]["lr"] = 77.0
    assert load_checkpoint(path, model=model, optimizer=optimizer, scheduler=None) == 3
    original, its_optimizer = trained()
    assert_same(state(model, optimizer), state(original, its_optimizer))
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert model[0].wiring == original[0].wiring != wiring
    assert not path.with_name("checkpoint.partial").exists()


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16, torch.float16])
def test_types_come_back(tmp_path, precision):
    model, twin = (nn.Linear(3, 2, dtype=precision) for _ in range(2))
    model.register_buffer("flags", torch.tensor([True, False]))
    twin.register_buffer("flags", torch.tensor([False, False]))
    settings = {"scheduler": None, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    save_checkpoint(tmp_path / "checkpoint", epoch=1, model=model, **settings)
    load_checkpoint(tmp_path / "checkpoint", model=twin, **settings)
    assert_same(model.state_dict(), twin.state_dict())


def test_shared_parameters_come_back(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    save_checkpoint(tmp_path / "checkpoint", epoch=1, model=model, optimizer=optimizer, scheduler=None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model[0].weight.zero_()
    load_checkpoint(tmp_path / "checkpoint", model=model, optimizer=optimizer, scheduler=None)
    assert_same(model.state_dict(), before)
    assert model[1].weight is model[0].weight


def test_flipped_bytes_are_noticed_and_change_nothing(path):
    raw = path.read_bytes()
    model, optimizer = trained(seed=1)
    before = state(model, optimizer)
    # every third byte: of the names and sizes, of the learning rate and the epoch, and of the numbers
    for at in range(0, len(raw), 3):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(path, model=model, optimizer=optimizer, scheduler=None)
    assert_same(state(model, optimizer), before)


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_cut_off_file_is_named(path, length):
    path.write_bytes(path.read_bytes()[:length])
    model, optimizer = trained()
    with pytest.raises(CheckpointError, match="^checkpoint cannot be read: "):
        load_checkpoint(path, model=model, optimizer=optimizer, scheduler=None)


def test_other_files_are_named(path):
    model, optimizer = trained()
    settings = {"model": model, "optimizer": optimizer, "scheduler": None}
    with pytest.raises(CheckpointError, match="^missing cannot be read: "):
        load_checkpoint(path.with_name("missing"), **settings)
    sentence = "must be a neuropil checkpoint of format 1, got another file"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(path, **settings)
    Wiring(2, 2, [0], [0]).save(path)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(path, **settings)
    path.write_text("not even that")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path, **settings)


def test_checkpoint_of_a_later_format_is_named(path, monkeypatch):
    model, optimizer = trained()
    monkeypatch.setattr("neuropil.train.checkpoint._FORMAT", 2)
    save_checkpoint(path, epoch=3, model=model, optimizer=optimizer, scheduler=None)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="must be a neuropil checkpoint of format 1, got format 2"):
        load_checkpoint(path, model=model, optimizer=optimizer, scheduler=None)


def test_checkpoint_that_does_not_fit_changes_nothing(path):
    """The sparse layer would fit, only the read-out does not: neither may change."""
    model, optimizer = trained(seed=1, width=2)
    before = state(model, optimizer)
    with pytest.raises(CheckpointError, match="checkpoint does not fit this model and optimizer"):
        load_checkpoint(path, model=model, optimizer=optimizer, scheduler=None)
    assert_same(state(model, optimizer), before)

    model, _ = trained(seed=1)
    two_groups = torch.optim.Adam([{"params": [p]} for p in model.parameters()])
    before = state(model, two_groups)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(path, model=model, optimizer=two_groups, scheduler=None)
    assert_same(state(model, two_groups), before)


@pytest.mark.parametrize("kernels", [("masked", "synapses"), ("synapses", "masked")])
def test_either_storage_of_single_synapses(kernels, tmp_path):
    """Weights and moments come back the way in which the layer stores them now."""
    networks = []
    for seed, kernel in enumerate(kernels):
        wiring = Ensembles(n_groups=2, p_inter=0.5).wire(8, 6, generator=torch.Generator().manual_seed(seed))
        model = nn.Sequential(SparseLinear(wiring, kernel=kernel), nn.Linear(6, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        networks.append((model, optimizer))
    (first, its_optimizer), (second, other_optimizer) = networks
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))

    def step(model, optimizer):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        return model[0].dense_weight().detach()

    step(first, its_optimizer)
    save_checkpoint(tmp_path / "checkpoint", epoch=1, model=first, optimizer=its_optimizer, scheduler=None)
    load_checkpoint(tmp_path / "checkpoint", model=second, optimizer=other_optimizer, scheduler=None)
    assert other_optimizer.state[second[0].weight]["exp_avg"].shape == second[0].weight.shape
    for _ in range(3):
        torch.testing.assert_close(step(second, other_optimizer), step(first, its_optimizer), rtol=0, atol=1e-5)
