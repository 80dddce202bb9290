"""How weights change: rules of learning that attach to a model of any wiring.

:func:`neuropil.train.fit` takes a :class:`LearningRule` where it takes an optimizer.
"""

from neuropil.learn.backpropagation import Backpropagation
from neuropil.learn.counter_current import CounterCurrent
from neuropil.learn.feedback import Feedback
from neuropil.learn.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment, KolenPollack, SignSymmetry
from neuropil.learn.forward_forward import ForwardForward
from neuropil.learn.goodness import LabelledNetwork, PeerNormalization
from neuropil.learn.label_diffusion import Denoiser, LabelDiffusion, NoiseSchedule
from neuropil.learn.noprop import NoProp
from neuropil.learn.pepita import Pepita
from neuropil.learn.rule import LearningRule
from neuropil.learn.stages import Stage, stages_of

__all__ = [
    "Backpropagation",
    "CounterCurrent",
    "Denoiser",
    "DirectFeedbackAlignment",
    "Feedback",
    "FeedbackAlignment",
    "ForwardForward",
    "KolenPollack",
    "LabelDiffusion",
    "LabelledNetwork",
    "LearningRule",
    "NoProp",
    "NoiseSchedule",
    "PeerNormalization",
    "Pepita",
    "SignSymmetry",
    "Stage",
    "stages_of",
]
