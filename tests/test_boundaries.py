"""The boundaries between the parts, kept by reading every import."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    path
    for path in (ROOT / "midas").rglob("*.py")
    if path.parts[len(ROOT.parts) + 1] not in {"v1", "order"}
)

ONLY_IN = {
    "pingpp": ("midas/psp/",),
    "sqlalchemy": ("midas/storage/",),
    "alembic": ("midas/storage/",),
    "grpc": ("midas/rpc/", "midas/cli/", "midas/app.py", "midas/sandbox/orders/", "midas/mock/"),
    "signal": (
        "midas/runtime/process.py",
        "midas/sandbox/app.py",
        "midas/cli/",
        "midas/mock/command.py",
    ),
    "pydantic": ("midas/config/settings.py", "midas/runtime/config_sources.py"),
    "aiohttp": ("midas/psp/", "midas/sandbox/"),
    "uvloop": ("midas/runtime/process.py",),
    "click": ("midas/cli/", "midas/__main__.py"),
}
"""Which files may import what. `midas/app.py` is the composition root."""

DOMAIN = {
    "charge",
    "refund",
    "payment",
    "immutable",
    "event",
    "lease",
    "errors",
    "limits",
    "out_trade_no",
    "schedule",
    "draft",
    "planning",
    "sequences",
}
MAY_USE = {
    "domain": {"domain"},
    "ports": {"domain", "ports"},
    "flows": {"domain", "ports", "flows", "runtime"},
    "psp": {"domain", "ports", "psp", "runtime"},
    "storage": {"domain", "ports", "storage", "runtime"},
    "rpc": {"domain", "ports", "flows", "rpc", "v1", "runtime"},
    "runtime": {"runtime", "errors"},
    "config": {"config", "runtime", "errors", "limits", "rpc", "storage"},
    "start": {"config", "runtime", "errors", "storage"},
    "sandbox": {"sandbox", "v1", "order"},
    "mock": {"domain", "flows", "psp", "rpc", "mock", "v1", "order", "runtime"},
}
"""Imports point one way: rpc → flows → ports → domain; psp and storage implement ports."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_where_they_belong(path: Path) -> None:
    """Ping++'s SDK, SQLAlchemy, grpc and signals each have one home."""
    where = str(path.relative_to(ROOT))
    for name in imports(path):
        homes = ONLY_IN.get(name.split(".")[0])
        assert homes is None or where.startswith(homes), f"{where} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    """No part knows of those that are built on it, and the sandbox knows of nothing of Midas."""
    allowed = MAY_USE.get(part_of(path.relative_to(ROOT).with_suffix("").parts[1]))
    if allowed is None:
        return
    for name in imports(path):
        if name.startswith("midas."):
            module = name.split(".")[1]
            assert {part_of(module), module} & allowed, f"{path.name} imports {name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Whoever reads one of them can read what it needs first."""
    paths = [
        path
        for package in ("midas", "webhook_gateway")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    uses = {name: set(_modules_of(path)) & modules.keys() for name, path in modules.items()}
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as circle:
        pytest.fail(f"these import each other: {' → '.join(circle.args[1])}")


def _modules_of(path: Path) -> Iterator[str]:
    """What a file imports, also if only for its types; a name of a package may be a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", sorted(DOMAIN))
def test_the_domain_imports_nothing_from_outside(name: str) -> None:
    """The state machines need the standard library and each other, nothing else."""
    for each in imports(ROOT / "midas" / f"{name}.py"):
        top = each.split(".")[0]
        assert top == "midas" or top in _STANDARD, f"{name} imports {each}"


_STANDARD = {"collections", "dataclasses", "datetime", "enum", "ipaddress", "typing"}


def part_of(module: str) -> str:
    """The part that a module or package directly below midas belongs to."""
    return "domain" if module in DOMAIN else module


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            if node.module == "midas":
                yield from (f"midas.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""
