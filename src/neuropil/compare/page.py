"""The page of a report as one file: template, style and scripts put together, safe with whatever text stands in it."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

_SCRIPTS = ("report.js", "charts.js")  # in the order in which they run


def fill_page(**values: Any) -> str:
    """Return the page as HTML text that loads nothing from elsewhere.

    Whatever text a recipe or a run brings is escaped, in the data for the scripts too. Should markup slip through all
    the same, the page's content security policy lets no script run but its own.

    Args:
        values: what the template ``report.html`` asks for.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    scripts = [_source(name) for name in _SCRIPTS]
    return environment.from_string(_source("report.html")).render(
        css=Markup(_source("report.css")), scripts=[*map(Markup, scripts)], policy=_policy(scripts), **values
    )


def _source(name: str) -> str:
    return resources.files("neuropil.compare").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Return a content security policy that allows embedded pictures and style, and these scripts by their digests."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src {allowed}"
    )
