"""The package nir, loaded when it is needed."""

from typing import Any

SNNTORCH_DT = 1e-4  # seconds; what snnTorch's importer and exporter assume, whatever a graph says


def nir_package(who: str) -> Any:
    """Return the module nir, or raise an ``ImportError`` that says how to install it."""
    try:
        import nir
    except ImportError as error:
        raise ImportError(f"{who} needs the package nir; install neuropil[neuro]") from error
    return nir
