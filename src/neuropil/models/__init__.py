"""The networks of the papers, built from wirings and units, and the twins that a comparison needs."""

from neuropil.models.conv_encoder import ConvEncoder
from neuropil.models.ensemble_net import START_NAMES, EnsembleNet, ensemble_net, mixer
from neuropil.models.interchange import from_nir, read_nir, to_nir, write_nir
from neuropil.models.patch_encoder import PatchEncoder
from neuropil.models.spiking_ensemble_net import (
    ENCODINGS,
    NEURONS,
    SpikingEnsembleNet,
    fixed_neurons,
    learned_neurons,
    spiking_ensemble_net,
)
from neuropil.models.spiking_sequential import SpikingSequential
from neuropil.models.twins import TWINS, layer_sizes, matched_widths, readout_size, twin_arguments, twins

__all__ = [
    "ENCODINGS",
    "NEURONS",
    "START_NAMES",
    "TWINS",
    "ConvEncoder",
    "EnsembleNet",
    "PatchEncoder",
    "SpikingEnsembleNet",
    "SpikingSequential",
    "ensemble_net",
    "fixed_neurons",
    "from_nir",
    "layer_sizes",
    "learned_neurons",
    "matched_widths",
    "mixer",
    "read_nir",
    "readout_size",
    "spiking_ensemble_net",
    "to_nir",
    "twin_arguments",
    "twins",
    "write_nir",
]
