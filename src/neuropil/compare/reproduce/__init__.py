"""Published claims that are run again: each with its smallest honest check, and a verdict on it."""

from neuropil.compare.reproduce.claims import Claim, all_claims, find_claim, read_claim
from neuropil.compare.reproduce.judge import Finding, Judgement, judge
from neuropil.compare.reproduce.record import make_row, read_record, render_page, root_folder, write_record
from neuropil.compare.reproduce.rows import Rows, read_rows, rows_of_folder

__all__ = [
    "Claim",
    "Finding",
    "Judgement",
    "Rows",
    "all_claims",
    "find_claim",
    "judge",
    "make_row",
    "read_claim",
    "read_record",
    "read_rows",
    "render_page",
    "root_folder",
    "rows_of_folder",
    "write_record",
]
