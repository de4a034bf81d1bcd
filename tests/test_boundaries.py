"""The boundaries between the parts, kept by reading every import."""

import ast
from collections.abc import Iterator
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
    "signal": ("midas/process.py", "midas/sandbox/app.py", "midas/cli/", "midas/mock/command.py"),
    "pydantic": ("midas/config",),
    "aiohttp": ("midas/psp/", "midas/sandbox/"),
    "uvloop": ("midas/process.py",),
    "click": ("midas/cli/", "midas/__main__.py"),
}
"""Which files may import what. `midas/app.py` is the composition root."""

DOMAIN = {
    "charge",
    "refund",
    "payment",
    "records",
    "event",
    "delivery",
    "errors",
    "limits",
    "out_trade_no",
    "schedule",
    "sequences",
}
MAY_USE = {
    "domain": {"domain"},
    "ports": {"domain", "ports"},
    "flows": {"domain", "ports", "flows", "observability"},
    "psp": {"domain", "ports", "psp", "public_key"},
    "storage": {"domain", "ports", "storage", "gathering"},
    "rpc": {"domain", "ports", "flows", "rpc", "v1", "observability"},
    "sandbox": {"sandbox", "v1", "order"},
    "mock": {"domain", "flows", "psp", "rpc", "mock", "v1", "order", "trouble", "target"},
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
            assert part_of(name.split(".")[1]) in allowed, f"{path.name} imports {name}"


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
