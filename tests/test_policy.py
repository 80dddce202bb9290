"""Rules that hold for the whole library, checked by reading its source."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import neuropil

ROOT = Path(neuropil.__file__).parent
REPOSITORY = ROOT.parents[1]
# the order of the design: a package imports only what stands above it
ORDER = ["connect", "units", "initialize", "learn", "rewire", "measure", "models", "data", "train", "compare"]
ON_TOP = ["bench", "cli", "testing"]
EVERYWHERE = {"evaluation", "randomness", "threads", "__version__"}
MODULES = [name for _, name, _ in pkgutil.walk_packages(neuropil.__path__, "neuropil.")]
SOURCES = sorted(ROOT.rglob("*.py"))


def imports(path):
    """Packages of neuropil that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "neuropil":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("neuropil."))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    if package not in ORDER:
        return
    allowed = {*ORDER[: ORDER.index(package) + 1], *EVERYWHERE}
    assert set(imports(path)) <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_global_draws_no_prints_no_pickles(path):
    text = re.sub(r"^ *>>> .*$", "", path.read_text(encoding="utf-8"), flags=re.M)  # examples may print
    for pattern in (r"np\.random\.", r"\brandom\.(random|seed|choice|shuffle)\(", r"\bprint\(", r"\bpickle\b",
                    r"torch\.(load|save)\(", r"(?<![\w.])eval\(", r"\bexec\("):  # fmt: skip
        found = [line for line in text.splitlines() if re.search(pattern, line) and "console" not in line.lower()]
        assert not found, f"{pattern}: {found}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_draws_take_a_generator(path):
    drawing = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "binomial", "normal"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in drawing
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "torch"
        ):
            assert "generator" in {keyword.arg for keyword in node.keywords}, f"line {node.lineno}"


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name):
    if name.endswith("_triton"):
        pytest.importorskip("triton", reason="Triton is not installed")
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name}.{public} has no docstring"
            assert public in vars(module)


def test_packages_list_what_they_promise():
    for package in (*ORDER, *ON_TOP):
        if (ROOT / package).exists():
            module = importlib.import_module(f"neuropil.{package}")
            assert module.__all__ == sorted(module.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n)), package


def test_no_file_is_two():
    long = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {path: n for path, n in long.items() if n > 500}


def test_connect_loads_nothing_of_the_command():
    code = (
        "import sys, torch, numpy; before = set(sys.modules); import neuropil.connect;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"scipy", "sklearn", "pydantic", "typer", "rich", "matplotlib", "jinja2", "pooch", "yaml", "networkx"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.skipif(not (REPOSITORY / "pyproject.toml").exists(), reason="needs the source tree")
def test_constraints_pin_every_dependency():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=\[ ;]", requirement)[0].lower() for requirement in wanted}
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    assert names <= pinned
