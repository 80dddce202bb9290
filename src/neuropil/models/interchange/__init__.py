"""Exchanging spiking networks with other simulators and with chips, in the Neuromorphic Intermediate Representation.

NIR is a graph of continuous-time neurons and linear maps, stored in HDF5. :func:`to_nir` and :func:`from_nir`
translate, :func:`write_nir` and :func:`read_nir` go to and from files. They need the package nir, which
``neuropil[neuro]`` installs.
"""

from neuropil.models.interchange.export import to_nir
from neuropil.models.interchange.file import read_nir, write_nir
from neuropil.models.interchange.load import from_nir

__all__ = ["from_nir", "read_nir", "to_nir", "write_nir"]
