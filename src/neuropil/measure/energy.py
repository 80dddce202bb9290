"""What operations and memory take on a chip: 45 nm, 0.9 V, from M. Horowitz, ISSCC 2014, 10.1109/ISSCC.2014.6757323.

They are for comparing networks: on today's chips arithmetic takes far less, and memory takes less too.
"""

ACCUMULATE_JOULES = 0.9e-12
"""Energy of a 32-bit floating-point addition."""

MULTIPLY_ACCUMULATE_JOULES = 4.6e-12
"""Energy of such a multiplication (3.7 pJ) and an addition (0.9 pJ)."""

DRAM_JOULES_PER_BYTE = 1.3e-9 / 8
"""Energy of a byte of main memory: an access of 64 bits takes 1.3 to 2.6 nJ; here the lower end, 162.5 pJ a byte."""

SRAM_JOULES_PER_BYTE = 100e-12 / 8
"""Energy of a byte of a cache of 1 MB: an access of 64 bits takes 100 pJ, 12.5 pJ a byte (8 KB: a tenth of it)."""
