"""The ``neuropil`` command."""

from neuropil.cli.main import main

__all__ = ["main"]
