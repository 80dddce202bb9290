"""Surrogate gradients inside compiled loops."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def surrogate_slopes(
    code: int, peak: Any, sharpness: Any, potential: NDArray[Any], threshold: NDArray[Any], slopes: NDArray[Any]
) -> None:
    """Write dS/dx at potential less threshold, for the surrogate of a code (see :mod:`neuropil.units.surrogate`)."""
    one = peak / peak  # of the type at hand: a literal would make every number a double
    if code == 0:
        for j in range(len(slopes)):
            z = sharpness * (potential[j] - threshold[j])
            slopes[j] = peak / (one + z * z)
    elif code == 1:
        for j in range(len(slopes)):
            z = one + sharpness * abs(potential[j] - threshold[j])
            slopes[j] = peak / (z * z)
    elif code == 2:
        for j in range(len(slopes)):
            small = np.exp(-sharpness * abs(potential[j] - threshold[j]))
            slopes[j] = peak * (one + one + one + one) * small / ((one + small) * (one + small))
    elif code == 3:
        for j in range(len(slopes)):
            slopes[j] = peak * max(one - sharpness * abs(potential[j] - threshold[j]), one - one)
    else:
        for j in range(len(slopes)):
            slopes[j] = peak if sharpness * abs(potential[j] - threshold[j]) <= one else one - one
