"""One run: the training loop, in one process or several, the run folder, checkpoints and exact resume."""

from neuropil.train.checkpoint import CheckpointError, CheckpointMismatchError
from neuropil.train.distributed import RankLostError, Ranks, RanksError
from neuropil.train.firing_rates import RatePenalty, RateSchedule
from neuropil.train.fit import Result, evaluate, evaluate_test, fit
from neuropil.train.memory import PeakMemory, keep_memory
from neuropil.train.penalty import Penalty
from neuropil.train.probes import Probe
from neuropil.train.remote import RemoteError, local_copy, working_copy
from neuropil.train.rounds import cosine_in_rounds
from neuropil.train.run import Run, RunError
from neuropil.train.subnormals import flush_subnormals
from neuropil.train.tracking import MLflow, TensorBoard, Tracker

__all__ = [
    "CheckpointError",
    "CheckpointMismatchError",
    "MLflow",
    "PeakMemory",
    "Penalty",
    "Probe",
    "RankLostError",
    "Ranks",
    "RanksError",
    "RatePenalty",
    "RateSchedule",
    "RemoteError",
    "Result",
    "Run",
    "RunError",
    "TensorBoard",
    "Tracker",
    "cosine_in_rounds",
    "evaluate",
    "evaluate_test",
    "fit",
    "flush_subnormals",
    "keep_memory",
    "local_copy",
    "working_copy",
]
