"""What is sparse about networks in plain words: lines for a terminal, cells for a table."""

from neuropil.compare.results import Results
from neuropil.compare.sparsity import RunSparsity, state_arm
from neuropil.measure.statement import LayerStatement

HEADER = ("arm", "density", "structure", "wiring", "densest ever", "dense gradients", "explored", "time an epoch")


def sparsity_lines(sparsity: RunSparsity) -> list[str]:
    """Return the whole statement, line by line: that of the network, then what its training adds."""
    lines = str(sparsity.statement).splitlines()
    lines.append(f"connections are those of: {sparsity.known_from}")
    if sparsity.rule is not None:
        lines.append(f"how: {sparsity.rule}")
    lines.append(f"densest state held: {_densest(sparsity)} ({sparsity.kind})")
    lines.append(f"dense gradients: {sparsity.dense_gradients}")
    if sparsity.rule is not None:
        lines.append(f"explored so far: {_share(sparsity.explored)} of all possible connections")
    if sparsity.statement.seconds is None:
        lines.append(f"an epoch: {_time(sparsity)}")
    lines.append(f"kernels of the hidden layers: {_kernels(sparsity)}")
    return lines


def sparsity_rows(results: Results) -> list[tuple[tuple[str, ...], str]]:
    """Return the cells of each row under ``HEADER``, and the whole statement as text.

    A cell's second line is its smaller print. Arms that nothing but time tells apart share a row, with the statement of
    the first of them.
    """
    alike: dict[tuple[str, ...], list[tuple[str, RunSparsity]]] = {}
    for name, arm in results.arms.items():
        found = state_arm(results, arm)
        alike.setdefault(_cells(found), []).append((name, found))
    return [
        ((_names([name for name, _ in arms]), *cells, _times([found for _, found in arms])),
         "\n".join(sparsity_lines(arms[0][1])))
        for cells, arms in alike.items()
    ]  # fmt: skip


def _cells(found: RunSparsity) -> tuple[str, ...]:
    """Return what stands in the row of an arm between its name and its time."""
    statement = found.statement
    sparse = [layer for layer in statement.layers if layer.is_sparse]
    where = f"in {len(sparse)} of {len(statement.layers)} weights" if sparse else "all weights dense"
    wiring, _, how = (found.rule or ("static" if sparse else "dense")).partition(": ")
    return (
        f"{statement.density_of_sparse_layers:.3f}\n{where}; all weights {statement.density:.3f}",
        _structure(sparse),
        f"{wiring}\n{how}" if how else wiring,
        f"{_densest(found)}\n{found.kind}",
        found.dense_gradients,
        "–" if found.rule is None else _share(found.explored),
    )


def _names(arms: list[str]) -> str:
    return arms[0] + (f"\nand alike: {', '.join(arms[1:])}" if len(arms) > 1 else "")


def _times(arms: list[RunSparsity]) -> str:
    seconds = [found.seconds for found in arms if found.seconds is not None]
    if len(arms) == 1 or not seconds:
        return f"{_time(arms[0])}\n{_kernels(arms[0])}"
    kernels = ", ".join(dict.fromkeys(map(_kernels, arms)))
    low, high = f"{min(seconds):.3g}", f"{max(seconds):.3g}"
    return f"{low} s\n{kernels}" if low == high else f"{low} to {high} s\n{kernels}"


def _structure(layers: list[LayerStatement]) -> str:
    """Say in which units connections come, and how neurons are grouped."""
    if not layers:
        return "dense"
    blocks = list(dict.fromkeys(layer.block for layer in layers if layer.block is not None))
    single = blocks == [(1, 1)]
    words = "single synapses" if single else f"blocks {', '.join(f'{rows} × {columns}' for rows, columns in blocks)}"
    groups = sorted({layer.n_groups or 0 for layer in layers})
    return f"{words}\n{'no groups' if groups == [0] else f'{groups[-1]} groups'}"


def _densest(sparsity: RunSparsity) -> str:
    return f"{sparsity.densest:.3f}" + (", other weights kept aside" if sparsity.keeps_aside else "")


def _share(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.3g} %"


def _kernels(sparsity: RunSparsity) -> str:
    return ", ".join(dict.fromkeys(sparsity.kernels)) or "not known"


def _time(sparsity: RunSparsity) -> str:
    if sparsity.seconds is None:
        return "not measured"
    own = f"{sparsity.seconds:.3g} s"
    if not sparsity.dense_seconds:
        return own
    return f"{own}, dense {sparsity.dense_seconds:.3g} s: {sparsity.dense_seconds / sparsity.seconds:.2f} × as fast"
