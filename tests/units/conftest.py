import copy

import pytest
import torch


def there_and_back(unit, current, state=None):
    """Outputs, end state, and the gradients of a weighted sum of both: of current, state and parameters."""
    current = current.detach().requires_grad_()
    start = None if state is None else tuple(part.detach().clone().requires_grad_() for part in state)
    unit.zero_grad()
    outputs, end = unit(current, start)
    weights = torch.Generator().manual_seed(1)
    loss = sum((part * torch.randn(part.shape, generator=weights, dtype=part.dtype)).sum() for part in (outputs, *end))
    loss.backward()
    found = {"outputs": outputs.detach(), "gradient of the current": current.grad}
    found |= {f"state {i}": part.detach() for i, part in enumerate(end)}
    # what a state does not touch has no gradient in a loop over steps, and one of 0 in a compiled one
    found |= {
        f"gradient of state {i}": torch.zeros_like(part) if part.grad is None else part.grad
        for i, part in enumerate(start or ())
    }
    return found | {f"gradient of {name}": parameter.grad.clone() for name, parameter in unit.named_parameters()}


@pytest.fixture
def run():
    return there_and_back


@pytest.fixture
def agree():
    """Compare the compiled loop with the loop over steps; return the outputs."""

    def compare(unit, current, state=None):
        tolerance = 1e-10 if current.dtype == torch.float64 else 1e-5
        results = []
        for kernel in ("torch", "numba"):
            candidate = copy.deepcopy(unit)
            candidate.kernel = kernel
            results.append(there_and_back(candidate, current, state))
        expected, found = results
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            scale = max(1.0, float(value.abs().max())) if value.numel() else 1.0
            torch.testing.assert_close(
                found[name], value, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
            )
        return found["outputs"]

    return compare
