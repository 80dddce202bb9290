"""Is it really faster? Layers, networks, events, rewiring, neurons, sheer size, measures and rules, timed."""

from neuropil.bench.records import read_rows
from neuropil.bench.run import default_folder, new_records, run_suite
from neuropil.bench.settings import Settings, make_settings
from neuropil.bench.suites import SUITES
from neuropil.bench.timing import Timings, measure

__all__ = [
    "SUITES",
    "Settings",
    "Timings",
    "default_folder",
    "make_settings",
    "measure",
    "new_records",
    "read_rows",
    "run_suite",
]
