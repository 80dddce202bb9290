"""One run: the training loop, the run folder, checkpoints and exact resume."""

from neuropil.train.checkpoint import CheckpointError, CheckpointMismatchError
from neuropil.train.fit import Result, evaluate, fit
from neuropil.train.memory import PeakMemory
from neuropil.train.run import Run, RunError
from neuropil.train.subnormals import flush_subnormals

__all__ = [
    "CheckpointError",
    "CheckpointMismatchError",
    "PeakMemory",
    "Result",
    "Run",
    "RunError",
    "evaluate",
    "fit",
    "flush_subnormals",
]
