"""The results store: every run below a root folder as one table, built from the run folders alone."""

from neuropil.compare.store.export import frame_of, results_frame, write_parquet, write_table_csv
from neuropil.compare.store.scan import Problem
from neuropil.compare.store.table import RunTable, find_runs, read_runs, runs_by_identity

__all__ = [
    "Problem",
    "RunTable",
    "find_runs",
    "frame_of",
    "read_runs",
    "results_frame",
    "runs_by_identity",
    "write_parquet",
    "write_table_csv",
]
