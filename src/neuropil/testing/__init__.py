"""Checks that others can run on their own layers, patterns, wirings and units."""

from neuropil.testing.kernels import assert_kernels_agree
from neuropil.testing.modules import assert_module
from neuropil.testing.patterns import assert_pattern
from neuropil.testing.units import assert_unit

__all__ = ["assert_kernels_agree", "assert_module", "assert_pattern", "assert_unit"]
