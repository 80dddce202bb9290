"""What readers call the layers of a network."""

from collections.abc import Iterable

from neuropil.compare.probe_measures import TOGETHER


def layer_titles(names: Iterable[str]) -> dict[str, str]:
    """Return what readers call layers, from what probes call them, in the order of a network.

    Example:
        >>> layer_titles(["hidden.1", "hidden.3", "readout", "encoder.convolution", "all"])
        {'encoder.convolution': 'encoder', 'hidden.1': 'layer 1', 'hidden.3': 'layer 2', 'readout': 'read-out', \
'all': 'all together'}
    """
    names = list(names)
    encoder = [name for name in names if name.startswith("encoder")]
    hidden = sorted((name for name in names if name.startswith("hidden.")), key=_number)
    titles = dict.fromkeys(encoder, "encoder") | {name: f"layer {i}" for i, name in enumerate(hidden, start=1)}
    rest = {"readout": "read-out", "output": "read-out", TOGETHER: "all together"}
    titles |= {name: title for name, title in rest.items() if name in names}
    return titles | {name: name for name in names if name not in titles}


def _number(name: str) -> tuple[int, str]:
    digits = name.split(".")[1]
    return (int(digits) if digits.isdigit() else 0, name)
