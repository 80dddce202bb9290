"""Who connects to whom, and how that is computed fast.

A pattern draws a :class:`Wiring`; a :class:`SparseLinear` computes it; :func:`sparsify` puts it into a model.
"""

from neuropil.connect.back_product import back_product
from neuropil.connect.conv import SparseConv2d, filters
from neuropil.connect.convert import densify, sparsify
from neuropil.connect.densities import layer_densities
from neuropil.connect.ensembles import Ensembles
from neuropil.connect.erdos_renyi import ErdosRenyi
from neuropil.connect.event_linear import EventLinear
from neuropil.connect.from_graph import FromGraph
from neuropil.connect.linear import SparseLinear
from neuropil.connect.pattern import Dense, Pattern
from neuropil.connect.scale_free import ScaleFree
from neuropil.connect.small_world import SmallWorld
from neuropil.connect.wiring import Wiring

__all__ = [
    "Dense",
    "Ensembles",
    "ErdosRenyi",
    "EventLinear",
    "FromGraph",
    "Pattern",
    "ScaleFree",
    "SmallWorld",
    "SparseConv2d",
    "SparseLinear",
    "Wiring",
    "back_product",
    "densify",
    "filters",
    "layer_densities",
    "sparsify",
]
