"""How weights change: rules of learning that attach to a model of any wiring.

:func:`neuropil.train.fit` takes a :class:`LearningRule` where it takes an optimizer.
"""

from neuropil.learn.activations import RectifiedPower, Triangle
from neuropil.learn.backpropagation import Backpropagation
from neuropil.learn.counter_current import CounterCurrent
from neuropil.learn.diehl_cook import DiehlCookNet
from neuropil.learn.eprop import EProp
from neuropil.learn.equilibrium import EquilibriumNet, EquilibriumPropagation
from neuropil.learn.exponentiated_gradient import ExponentiatedAdam, ExponentiatedGradient, SignConstrainedSGD
from neuropil.learn.feedback import Feedback
from neuropil.learn.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment, KolenPollack, SignSymmetry
from neuropil.learn.forward_forward import ForwardForward
from neuropil.learn.goodness import LabelledNetwork, PeerNormalization
from neuropil.learn.hebbian import HebbianRule
from neuropil.learn.label_diffusion import Denoiser, LabelDiffusion, NoiseSchedule
from neuropil.learn.noprop import NoProp
from neuropil.learn.oja import Oja, Sanger
from neuropil.learn.pepita import Pepita
from neuropil.learn.predictive_coding import PredictiveCoding
from neuropil.learn.readout_only import ReadoutOnly
from neuropil.learn.rule import LearningRule
from neuropil.learn.soft_hebb import SoftHebb
from neuropil.learn.stages import Stage, stages_of
from neuropil.learn.stdp import STDP
from neuropil.learn.target_propagation import DifferenceTargetPropagation, Inverse
from neuropil.learn.winner_take_all import KrotovHopfield, WinnerTakeAll

__all__ = [
    "STDP",
    "Backpropagation",
    "CounterCurrent",
    "Denoiser",
    "DiehlCookNet",
    "DifferenceTargetPropagation",
    "DirectFeedbackAlignment",
    "EProp",
    "EquilibriumNet",
    "EquilibriumPropagation",
    "ExponentiatedAdam",
    "ExponentiatedGradient",
    "Feedback",
    "FeedbackAlignment",
    "ForwardForward",
    "HebbianRule",
    "Inverse",
    "KolenPollack",
    "KrotovHopfield",
    "LabelDiffusion",
    "LabelledNetwork",
    "LearningRule",
    "NoProp",
    "NoiseSchedule",
    "Oja",
    "PeerNormalization",
    "Pepita",
    "PredictiveCoding",
    "ReadoutOnly",
    "RectifiedPower",
    "Sanger",
    "SignConstrainedSGD",
    "SignSymmetry",
    "SoftHebb",
    "Stage",
    "Triangle",
    "WinnerTakeAll",
    "stages_of",
]
