"""The networks of the papers, built from wirings and units, and the twins that a comparison needs."""

from neuropil.models.ensemble_net import EnsembleNet, ensemble_net, mixer
from neuropil.models.patch_encoder import PatchEncoder
from neuropil.models.twins import TWINS, layer_sizes, matched_widths, twin_arguments, twins

__all__ = [
    "TWINS",
    "EnsembleNet",
    "PatchEncoder",
    "ensemble_net",
    "layer_sizes",
    "matched_widths",
    "mixer",
    "twin_arguments",
    "twins",
]
