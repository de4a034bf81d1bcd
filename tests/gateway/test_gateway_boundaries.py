"""The gateway knows of Midas what a caller knows, and what runs a process of Midas."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "webhook_gateway").rglob("*.py"))
RUNTIME = [*sorted((ROOT / "midas/runtime").glob("*.py")), ROOT / "midas/errors.py"]

STUBS = ("midas.v1.", "midas.order.v1.")
SHARED = ("midas.runtime.", "midas.errors")
"""What both servers share: it needs nothing of either, and knows nothing of payments."""
SHARED_LIBRARIES = {"cryptography", "orjson", "pydantic", "uvloop"}

PACKAGES = {"midas", "midas.runtime", "midas.v1", "midas.order.v1", "webhook_gateway"}
"""`from` these a module is imported, not a name."""

NEVER_LOADED = (
    "sqlalchemy", "alembic", "asyncpg", "pingpp", "requests", "midas.app", "midas.config",
    "midas.flows", "midas.rpc", "midas.storage", "midas.psp", "midas.sandbox", "midas.cli",
    "midas.charge", "midas.refund", "midas.payment", "midas.ports",
)  # fmt: skip

ONLY_IN = {
    "pydantic": {"settings"},
    "prometheus_client": {"metrics"},
    "cryptography": {"signature"},
}
"""Which files may import what."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_gateway_imports_the_stubs_the_runtime_and_errors_only(path: Path) -> None:
    """Nothing else of Midas."""
    for name in imports(path):
        if name.partition(".")[0] == "midas":
            assert name.startswith((*STUBS, *SHARED)), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    """Signals, settings, metrics and cryptography each have one home."""
    for name in imports(path):
        homes = ONLY_IN.get(name.partition(".")[0])
        assert homes is None or path.stem in homes, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: path.stem)
def test_the_runtime_stands_alone(path: Path) -> None:
    """It imports the standard library, itself and what runs and configures a process."""
    libraries = SHARED_LIBRARIES | sys.stdlib_module_names
    for each in imports(path):
        known = each.partition(".")[0] in libraries or each.startswith(SHARED)
        assert known, f"{path.name} imports {each}"


def test_a_gateway_process_loads_nothing_of_the_server() -> None:
    """Asked of a process that has imported every module of the gateway."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if not path.stem.startswith("__")
    ]
    code = f"import sys, {', '.join(names)}; print('\\n'.join(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert {"webhook_gateway.app", "midas.v1.event_service_pb2"} <= loaded
    assert not {each for each in loaded if each.startswith(tuple(f"{n}." for n in NEVER_LOADED))}
    assert not loaded & set(NEVER_LOADED)


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                package = node.module in PACKAGES
                yield f"{node.module}.{alias.name}" if package else node.module or ""
