"""How weights change: rules of learning that attach to a model of any wiring.

:func:`neuropil.train.fit` takes a :class:`LearningRule` where it takes an optimizer.
"""

from neuropil.learn.backpropagation import Backpropagation
from neuropil.learn.counter_current import CounterCurrent
from neuropil.learn.feedback import Feedback
from neuropil.learn.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment, KolenPollack, SignSymmetry
from neuropil.learn.rule import LearningRule
from neuropil.learn.stages import Stage, stages_of

__all__ = [
    "Backpropagation",
    "CounterCurrent",
    "DirectFeedbackAlignment",
    "Feedback",
    "FeedbackAlignment",
    "KolenPollack",
    "LearningRule",
    "SignSymmetry",
    "Stage",
    "stages_of",
]
