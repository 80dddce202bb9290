"""The ways to compute one sparse layer; all agree with the masked dense product, forward and backward."""

from neuropil.connect.kernels.choice import KERNELS, choose_kernel, explain
from neuropil.connect.kernels.kernel import Kernel

__all__ = ["KERNELS", "Kernel", "choose_kernel", "explain"]
