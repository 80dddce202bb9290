"""Where runs compute."""

import torch


def check_device(device: str, precision: str = "float32", *, is_here: bool = True) -> None:
    """Raise a ``ValueError`` unless PyTorch can compute on a device, in a precision.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: as in a recipe.
        is_here: whether it must be a device of this machine.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or device.endswith(":"):
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {device!r}")
    n_gpus = torch.cuda.device_count() if kind == "cuda" else 0
    if is_here and kind == "cuda" and int(number or 0) >= n_gpus:
        raise ValueError(f"device {device} must be a GPU that PyTorch can use, got {n_gpus or 'none'} here; try cpu")
    if precision == "tf32" and kind != "cuda":
        raise ValueError(f"precision tf32 needs a GPU, got device {device}; try --device cuda, or precision float32")
