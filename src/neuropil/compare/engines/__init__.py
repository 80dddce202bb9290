"""Where runs are done: on this machine by joblib's processes, or on many by Ray."""

from neuropil.compare.engines.choose import check_engine, open_engine
from neuropil.compare.engines.engine import ATTEMPTS, Engine, LostError, News, Work

__all__ = ["ATTEMPTS", "Engine", "LostError", "News", "Work", "check_engine", "open_engine"]
