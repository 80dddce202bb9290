"""Where runs compute: checked before anything runs; on a GPU, where there is one, the same networks."""

import json

import pytest
import torch

from neuropil import data
from neuropil.compare import do_tasks, expand_arms, load_recipe
from neuropil.compare.comparison import compare, list_tasks
from neuropil.compare.devices import check_device

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SETTINGS = ["epochs=1", "seeds=1", "hidden=[64, 64]"]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps", "", "CPU"])
def test_unknown_devices_are_named(device):
    with pytest.raises(ValueError, match=f"^device must be cpu, cuda or cuda:N, got {device!r}$"):
        check_device(device)


def test_a_gpu_must_be_there():
    n = torch.cuda.device_count()
    with pytest.raises(
        ValueError, match=f"^device cuda:{n} must be a GPU that PyTorch can use, got {n or 'none'} here"
    ):
        check_device(f"cuda:{n}")


def test_tf32_is_for_gpus():
    wording = "^precision tf32 needs a GPU, got device cpu; try --device cuda, or precision float32$"
    with pytest.raises(ValueError, match=wording):
        check_device("cpu", "tf32")


def test_nothing_is_written_where_the_device_is_wrong(tmp_path):
    recipe = load_recipe("digits", [*SETTINGS, "precision=tf32"])
    with pytest.raises(ValueError, match="^precision tf32"):
        compare(recipe, tmp_path / "new")
    with pytest.raises(ValueError, match="^precision tf32"):
        do_tasks(list_tasks(recipe, expand_arms(recipe), [0], tmp_path / "new"), jobs=1, threads=1)
    assert not (tmp_path / "new").exists()


def test_data_moves_as_bytes():
    digits = data.with_validation(data.load("digits"), 0.1, torch.Generator().manual_seed(0))
    moved = digits.to("meta")
    for name in ("train", "test", "validation"):
        split = getattr(moved, name)
        assert (split.images.device.type, split.images.dtype, split.labels.device.type) == ("meta", torch.uint8, "meta")
    assert (moved.mean, moved.name) == (digits.mean, digits.name)
    assert data.load("digits").to("cpu").validation is None
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    batches = (next(d.batches(d.train, 8, g)) for d, g in zip((digits, digits.to("cpu")), generators, strict=True))
    for ours, theirs in zip(*batches, strict=True):
        assert torch.equal(ours, theirs)


@on_gpu
@pytest.mark.parametrize("recipe", ["digits", "spiking-digits"])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_runs_on_a_gpu(tmp_path, recipe, precision):
    chosen = load_recipe(recipe, [*SETTINGS, f"precision={precision}"])
    arms = [arm for arm in expand_arms(chosen) if arm.name.startswith("mixer")][:1]
    tasks = list_tasks(chosen, arms, [0], tmp_path)
    do_tasks(tasks, jobs=1, threads=1, device="cuda")
    assert tasks[0].failure is None
    assert tasks[0].summary["test_accuracy"] > 0.3
    assert json.loads((tasks[0].folder / "environment.json").read_text())["gpu"] == torch.cuda.get_device_name()
