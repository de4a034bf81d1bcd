"""What a caller of Midas installs: the stubs, typed, the mock, and nothing of the server."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.mock import call_everything
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parent.parent
UV = os.environ.get("UV") or shutil.which("uv")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(UV is None, reason="needs uv, which builds the wheel: pip install uv"),
    pytest.mark.timeout(900),
]

TEN_LINES = """
import grpc
from midas.v1 import charge_pb2, payment_service_pb2, payment_service_pb2_grpc


def pay(target: str) -> str:
    with grpc.insecure_channel(target) as channel:
        stub = payment_service_pb2_grpc.PaymentServiceStub(channel)
        request = payment_service_pb2.ChargeRequest(order_no="A1", channel="alipay_qr", amount=100)
        answer = stub.Charge(request, timeout=30)
        assert answer.charge.state == charge_pb2.CHARGE_STATE_PENDING
        return answer.charge_json
"""

WRONG_LINE = """
def wrong() -> None:
    payment_service_pb2.ChargeRequest(order_no=1)
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, what the wheel asks for, and a type checker."""
    folder = tmp_path_factory.mktemp("caller")
    uv("build", "--wheel", "--quiet", "--out-dir", str(folder / "dist"), str(ROOT))
    wheel = next((folder / "dist").glob("*.whl"))
    uv("venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    checker = ["mypy", "types-protobuf", "types-grpcio"]
    uv("pip", "install", "--quiet", "--python", str(folder / "venv"), str(wheel), *checker)
    return folder


def uv(*arguments: str) -> str:
    """Run uv; its output."""
    assert UV is not None
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    ran = subprocess.run([UV, *arguments], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def names_in(wheel: Path) -> list[str]:
    """The paths of its files."""
    with zipfile.ZipFile(wheel) as opened:
        return sorted(opened.namelist())


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python, away from the repository."""
    program = str(folder / "venv/bin/python")
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True)


def test_only_the_runtime_packages_come_along(clean: Path) -> None:
    """No server, database or HTTP library is installed with the stubs."""
    listed = uv("pip", "list", "--quiet", "--python", str(clean / "venv"), "--format", "freeze")
    names = {line.split("==")[0].split(" @")[0].lower() for line in listed.splitlines()}
    of_the_checker = {"mypy", "mypy-extensions", "pathspec", "librt", "ast-serialize"}
    of_the_checker |= {"types-protobuf", "types-grpcio"}
    wanted = {"midas", "grpcio", "grpcio-status", "protobuf", "googleapis-common-protos"}
    assert names - of_the_checker - {"typing-extensions"} == wanted


def test_ten_lines_of_a_caller_pass_a_strict_type_checker(clean: Path) -> None:
    """The stubs are typed for whoever installs them, and a wrong line is found."""
    (clean / "caller.py").write_text(TEN_LINES)
    right = python(clean, "-m", "mypy", "--strict", "caller.py")
    assert right.returncode == 0, right.stdout
    (clean / "wrong.py").write_text(TEN_LINES + WRONG_LINE)
    wrong = python(clean, "-m", "mypy", "--strict", "wrong.py")
    assert "order_no" in wrong.stdout
    assert wrong.returncode == 1


def test_the_stubs_import_without_the_server(clean: Path) -> None:
    """Importing the stubs loads none of the server's parts."""
    code = "import sys, midas.v1.payment_service_pb2_grpc; print(sorted(sys.modules))"
    ran = python(clean, "-W", "error", "-c", code)
    assert ran.returncode == 0, ran.stderr
    for name in ("midas.flows", "midas.rpc", "aiohttp", "sqlalchemy"):
        assert f"'{name}'" not in ran.stdout


def test_the_protos_of_the_wheel_need_nothing_else(clean: Path) -> None:
    """They compile with what the wheel brings alone; a status with its details is among them."""
    (protos,) = (clean / "venv/lib").glob("python*/site-packages/midas/protos")
    names = {str(path.relative_to(protos)) for path in protos.rglob("*.proto")}
    own = {str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto")}
    of_a_status = {f"google/rpc/{name}.proto" for name in ("status", "code", "error_details")}
    assert names >= own | of_a_status
    for name in own:
        assert (protos / name).read_bytes() == (ROOT / "protos" / name).read_bytes()
    # protoc by itself looks beside its own program, too; this one does not.
    code = "import sys; from grpc_tools import protoc; sys.exit(protoc.main(sys.argv))"
    options = [f"-I{protos}", f"--descriptor_set_out={os.devnull}"]
    command = [sys.executable, "-c", code, *options, *sorted(names)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_source_distribution_makes_the_same_wheel(clean: Path) -> None:
    """It has all that a wheel is built of."""
    uv("build", "--quiet", "--out-dir", str(clean / "again"), str(ROOT))
    (again,) = (clean / "again").glob("*.whl")
    (wheel,) = (clean / "dist").glob("*.whl")
    assert names_in(again) == names_in(wheel)


def test_the_command_says_what_is_missing(clean: Path) -> None:
    """`midas` without the server's libraries names the extra to install."""
    ran = python(clean, "-m", "midas", "serve")
    assert ran.returncode == 2, ran.stderr
    assert "midas[server]" in ran.stderr


def test_the_mock_answers_every_method(clean: Path) -> None:
    """`midas mock` comes up on the base install, and the stubs of the same install call it."""
    program, script = str(clean / "venv/bin/midas"), Path(call_everything.__file__)
    command = [program, "mock", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=clean, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            target = json.loads(child.stdout.readline())["target"]
            ran = python(clean, "-W", "error", str(script), target)
        finally:
            child.terminate()
            child.wait(PATIENCE_S)
    assert ran.returncode == 0, ran.stderr
    assert set(json.loads(ran.stdout)) == {
        f"{service.full_name}/{method.name}"
        for service in call_everything.SERVICES
        for method in service.methods
    }
    assert child.returncode == 0
