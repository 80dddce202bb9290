"""What can be measured, one suite a file: each gives rows, some at a time, and takes turns inside them."""

from neuropil.bench.suites import events, layers, measures, networks, neurons, rewiring, rules, scale

SUITES = {
    "layers": layers.run,
    "networks": networks.run,
    "events": events.run,
    "rewiring": rewiring.run,
    "neurons": neurons.run,
    "scale": scale.run,
    "measures": measures.run,
    "rules": rules.run,
}

__all__ = ["SUITES"]
