import re

import pytest
import torch

from neuropil.bench.settings import block_of, make_settings
from neuropil.train.precision import computing_in


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "0"}, "bench: --size must be whole numbers of at least 1, with commas between them, got '0'; try --size 1024,2048"),
        ({"size": "64,"}, "bench: --size must be whole numbers"),
        ({"size": "x"}, "got 'x'"),
        ({"batch": "-3"}, "bench: --batch must be whole numbers of at least 1"),
        ({"density": "2"}, "bench: --density must be shares above 0 and up to 1, got '2'; try --density 0.25,0.1,0.01"),
        ({"density": "nan"}, "bench: --density must be shares"),
        ({"density": "much"}, "bench: --density must be shares"),
        ({"block": "3"}, "bench: --block must be as 1x1, groupx1 or 64x64, got '3'"),
        ({"block": "0x1"}, "got '0x1'"),
        ({"precision": "float16"}, "bench: --precision must be one or more of float32, float64, bfloat16, tf32, got 'float16'"),
        ({"precision": "tf32"}, "bench: --precision tf32 needs --device cuda, got cpu; try --precision float32"),
        ({"kernel": "magic"}, "bench: --kernel must be one or more of blocks, "),
        ({"device": "tpu"}, "bench: --device must be cpu or cuda, got 'tpu'"),
        ({"threads": 0}, "bench: --threads must be a whole number of at least 1, got 0"),
        ({"rounds": 0}, "bench: --rounds must be a whole number of at least 1, got 0"),
        ({"steps": -1}, "bench: --steps must be a whole number of at least 1, got -1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(given, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make_settings(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match="--device cuda needs a GPU that PyTorch can use, found none"):
        make_settings(device="cuda")


def test_lists():
    settings = make_settings(
        size="64, 128", density="0.5,1", block="1x1,groupx1", precision="float32,bfloat16", kernel="masked"
    )
    assert settings.sizes == (64, 128)
    assert settings.densities == (0.5, 1.0)
    assert settings.blocks == ("1x1", "groupx1")
    assert settings.precisions == ("float32", "bfloat16")
    assert settings.batches is None
    assert settings.kernels == ("masked",)
    assert settings.threads >= 1


def test_blocks():
    assert block_of("1x1") == (1, 1)
    assert block_of("groupx1") == ("group", 1)
    assert block_of("groupxgroup") == ("group", "group")
    assert block_of("16x8") == (16, 8)


def test_tf32_holds_while_it_lasts():
    before = torch.get_float32_matmul_precision()
    with computing_in("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
