"""The machine and the versions that a run was made with."""

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import neuropil

# what can change the last bits of a result
DECISIVE = ("torch", "processor", "gpu", "threads")
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "safetensors")


def describe_environment(device: torch.device | str = "cpu") -> dict[str, str | int]:
    """Return what is worth knowing of the machine: date, processor, threads, versions, commit.

    Args:
        device: where the work runs; of a GPU, its name is told too.
    """
    facts: dict[str, str | int] = {
        "date": datetime.date.today().isoformat(),
        "neuropil": neuropil.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    """Return the commit of the source tree that neuropil was imported from, or "unknown" outside of one.

    The environment variable ``NEUROPIL_COMMIT`` says it where a tree was copied without its history.
    """
    if told := os.environ.get("NEUROPIL_COMMIT"):
        return told
    root = Path(neuropil.__file__).parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
