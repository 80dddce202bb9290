"""Subnormal numbers, which make a CPU epoch take several times as long, are flushed to zero."""

import logging

import torch

from neuropil.threads import renew_threads

logger = logging.getLogger(__name__)


def flush_subnormals() -> bool:
    """Make this process compute with subnormal numbers flushed to zero; return whether every thread does.

    With ReLU and coupled weight decay, the weights of dead units decay into subnormal numbers (below 1.2e-38), and
    processors handle these many times slower. Threads take the setting over from the one that starts them: call
    this before the first tensor operation. :func:`neuropil.train.fit` and the command do so; where PyTorch's
    threads were running already, a warning is logged.
    """
    if not torch.set_flush_denormal(True):
        logger.warning("this processor cannot flush subnormal numbers to zero: late epochs may be slow")
        return False
    renew_threads()
    # large enough that every thread of the pool takes a share
    product = torch.full((torch.get_num_threads() * 65_536,), 1e-30) * 1e-9
    if bool((product != 0).any()):
        logger.warning(
            "PyTorch's threads were started before subnormal numbers were switched off, so late epochs may be slow; "
            "call neuropil.train.flush_subnormals() before the first tensor operation"
        )
        return False
    return True
