"""Probes in plain words, for the captions of their pictures."""

from neuropil.compare.probe_figures import ProbePicture
from neuropil.compare.probes import ProbePlan


def describe_probe(shown: ProbePicture) -> tuple[str, str]:
    """Say what a probe measures; and where that comes from, when and on what it was measured, and of which arms not.

    Example:
        >>> from neuropil.compare.probes import read_probe
        >>> plan = read_probe({"measure": "norms", "every": 50, "epochs": [], "name": "often"})
        >>> describe_probe(ProbePicture(plan, None, None, ()))[1]
        'Measured on the first 256 training images, after every 50 steps. Nothing has been recorded yet.'
    """
    plan = shown.plan
    settings = "".join(f", {key} = {value}" for key, value in plan.settings.items())
    images = f" on the first {plan.n_samples:,} training images," if plan.kind.of_images else ""
    words = [f"Source: {plan.kind.source}."] if plan.kind.source else []
    words.append(f"Measured{images} {_when(plan)}{settings}.")
    if shown.missing:
        words.append(f"Not of {', '.join(shown.missing)}, whose layers are all dense.")
    if shown.picture is None:
        words.append("Nothing has been recorded yet.")
    return plan.kind.what, " ".join(words)


def _when(plan: ProbePlan) -> str:
    words = []
    if plan.epochs is None:
        words.append("before training and after each epoch")
    elif plan.epochs:
        last = f"after epoch{'s' if len(plan.epochs) > 1 else ''} {', '.join(map(str, sorted(plan.epochs)))}"
        words.append(last + (" (0: before training)" if 0 in plan.epochs else ""))
    if plan.every is not None:
        words.append("after every step" if plan.every == 1 else f"after every {plan.every:,} steps")
    return " and ".join(words) or "never"
