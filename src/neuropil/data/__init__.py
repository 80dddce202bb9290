"""Real data as tensors in memory, with its structure checked."""

from neuropil.data.check import Check, check
from neuropil.data.dataset import Dataset, Split, with_validation
from neuropil.data.errors import DataError
from neuropil.data.load import load
from neuropil.data.sources import SOURCES, Source

__all__ = ["SOURCES", "Check", "DataError", "Dataset", "Source", "Split", "check", "load", "with_validation"]
