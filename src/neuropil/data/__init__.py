"""Real data as tensors in memory, with its structure checked."""

from neuropil.data.check import Check, check
from neuropil.data.dataset import Dataset, Split, with_validation
from neuropil.data.errors import DataError
from neuropil.data.events import EventDataset, event_batches, event_frames
from neuropil.data.folds import fold
from neuropil.data.load import load
from neuropil.data.sources import SOURCES, Source

__all__ = [
    "SOURCES",
    "Check",
    "DataError",
    "Dataset",
    "EventDataset",
    "Source",
    "Split",
    "check",
    "event_batches",
    "event_frames",
    "fold",
    "load",
    "with_validation",
]
