import pytest

from neuropil.bench.picture import draw

KERNELS = {"1x1": ("weights × mask", "torch CSR", "masked", "another"), "groupx1": ("blocks", "events")}


@pytest.fixture
def rows():
    made = [{"size": 64, "batch": 4, "precision": "float32", "pattern": "Dense", "block": "", "kernel": "nn.Linear",
             "density": 1.0, "over_linear": 1.0}]  # fmt: skip
    for size in (64, 128):
        for block, kernels in KERNELS.items():
            for i, kernel in enumerate(kernels):
                for density in (0.5, 0.1, 0.01):
                    speed = (i + 1) * density**-0.5
                    made.append({
                        "size": size, "batch": 4, "precision": "float32", "pattern": "Ensembles", "block": block,
                        "kernel": kernel, "density": density, "over_linear": speed, "over_linear_lower": 0.9 * speed,
                        "over_linear_upper": 1.1 * speed,
                    })  # fmt: skip
    return made


def test_a_panel_each_size_and_block(rows, tmp_path):
    from matplotlib.image import imread

    path = draw("layers", rows, tmp_path / "new" / "layers.png")
    image = imread(path)
    assert image.std() > 0.05  # not empty
    assert len({tuple(pixel) for pixel in image[::7, ::7].reshape(-1, image.shape[2])}) > 20


def test_one_density_and_one_kernel_are_enough(rows, tmp_path):
    assert draw("layers", rows[1:2], tmp_path / "layers.png").exists()


def test_nothing_measured_is_no_picture(rows, tmp_path):
    assert draw("layers", [], tmp_path / "layers.png") is None
    assert draw("layers", [row | {"over_linear": None} for row in rows], tmp_path / "layers.png") is None
    assert draw("scale", [{"task": "train", "median_ms": None}], tmp_path / "scale.png") is None
    assert draw("events", rows, tmp_path / "events.png") is None
    assert not list(tmp_path.iterdir())


def test_time_over_size(tmp_path):
    rows = [
        {"task": task, "kernel": "synapses", "connections": n, "median_ms": n / 1000, "seconds_per_simulated_second": 1}
        for task in ("train", "spiking")
        for n in (1000, 10_000)
    ]
    assert draw("scale", rows, tmp_path / "scale.png").stat().st_size > 5000
