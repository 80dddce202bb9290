"""Neural networks whose wiring, plasticity and dynamics come from neuroscience.

Each package answers one question; import the one you need (``import neuropil.connect``): nothing is loaded
that was not asked for.
"""

__version__ = "0.1.0"
