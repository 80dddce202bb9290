"""Checks that others can run on their own layers, patterns, wirings, units and rules."""

from neuropil.testing.kernels import assert_kernels_agree
from neuropil.testing.modules import assert_module
from neuropil.testing.patterns import assert_pattern
from neuropil.testing.rules import assert_local
from neuropil.testing.units import assert_unit

__all__ = ["assert_kernels_agree", "assert_local", "assert_module", "assert_pattern", "assert_unit"]
