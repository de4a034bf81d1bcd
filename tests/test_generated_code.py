"""The protos give callers in other languages the names and packages that they expect there."""

import os
import re
import shutil
import subprocess
import sysconfig
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileOptions

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
IMPORTED = files("grpc_tools") / "_proto"
SOURCES = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
PACKAGES = sorted({str(Path(each).parent) for each in SOURCES})
NAMES = {
    "midas/v1": {
        "go_package": "midas.internal/gen/go/midas/v1;midasv1",
        "java_package": "com.midas.v1",
        "csharp_namespace": "Midas.V1",
        "php_namespace": "Midas\\V1",
        "php_metadata_namespace": "Midas\\V1\\GPBMetadata",
        "ruby_package": "Midas::V1",
    },
    "midas/order/v1": {
        "go_package": "midas.internal/gen/go/midas/order/v1;midasorderv1",
        "java_package": "com.midas.order.v1",
        "csharp_namespace": "Midas.Order.V1",
        "php_namespace": "Midas\\Order\\V1",
        "php_metadata_namespace": "Midas\\Order\\V1\\GPBMetadata",
        "ruby_package": "Midas::Order::V1",
    },
}


def found(program: str) -> str:
    """A tool, or the test is skipped; where it must be there (CI=true) it fails."""
    known = shutil.which(program, path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if known is None:
        absent = f"{program} is not installed; .ci/run installs it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(absent)
    return known


def generate(out: Path, kind: str, options: str = "", plugin: str = "") -> None:
    """Run protoc once for each package, as every plugin for Go can take it."""
    known = [f"--plugin=protoc-gen-{kind}={found(plugin)}"] if plugin else []
    for package in PACKAGES:
        sources = [each for each in SOURCES if str(Path(each).parent) == package]
        command = [found("protoc"), f"-I{PROTOS}", f"-I{IMPORTED}", *known]
        ran = subprocess.run(
            [*command, f"--{kind}_out={options}{out}", *sources], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr


def lines(path: Path, pattern: str) -> list[str]:
    """What this pattern captures, in each line that it fits."""
    return re.findall(pattern, path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("source", SOURCES)
def test_every_file_names_its_packages(source: str) -> None:
    """Also in the descriptors that travel with the stubs, which reflection shows."""
    module = import_module(source.removesuffix(".proto").replace("/", ".") + "_pb2")
    options: FileOptions = module.DESCRIPTOR.GetOptions()
    wanted = NAMES[str(Path(source).parent)]
    assert {name: getattr(options, name) for name in wanted} == wanted
    assert options.java_multiple_files
    stem = "".join(word.capitalize() for word in Path(source).stem.split("_"))
    assert options.java_outer_classname == f"{stem}Proto"


@pytest.mark.long
def test_java(tmp_path: Path) -> None:
    """A class of its own for each message, in the package where it is looked for."""
    generate(tmp_path, "java")
    for name in ("v1/Charge", "v1/PaymentErrorDetail", "order/v1/PayOrderSuccessRequest"):
        package = lines(tmp_path / f"com/midas/{name}.java", r"^package (.*);$")
        assert package == ["com.midas." + str(Path(name).parent).replace("/", ".")]
    assert (tmp_path / "com/midas/v1/ChargeProto.java").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "file", "pattern", "package"),
    [
        ("csharp", "OrderPaymentService.cs", r"^namespace (\S+)", "Midas.Order.V1"),
        (
            "php",
            "Midas/Order/V1/PayOrderSuccessRequest.php",
            r"^namespace (\S+);",
            "Midas\\Order\\V1",
        ),
        ("ruby", "midas/order/v1/order_payment_service_pb.rb", r"^  module (\S+)", "Order"),
    ],
)
def test_other_languages_of_protoc(
    tmp_path: Path, kind: str, file: str, pattern: str, package: str
) -> None:
    """The namespaces that C#, PHP and Ruby expect."""
    generate(tmp_path, kind)
    assert lines(tmp_path / file, pattern) == [package]


@pytest.mark.long
def test_go(tmp_path: Path) -> None:
    """The two packages have names of their own, and the one imports the other by its path."""
    generate(tmp_path, "go", "paths=source_relative:", "protoc-gen-go")
    orders = tmp_path / "midas/order/v1/order_payment_service.pb.go"
    assert lines(orders, r"^package (\S+)$") == ["midasorderv1"]
    assert lines(orders, r'"(midas\S*/v1)"$') == ["midas.internal/gen/go/midas/v1"]
    assert lines(orders, r"^type (PayOrderSuccessRequest) struct") == ["PayOrderSuccessRequest"]
    charge = tmp_path / "midas/v1/charge.pb.go"
    assert lines(charge, r"^package (\S+)$") == ["midasv1"]
    assert "ChargeState_CHARGE_STATE_SUCCEEDED" in charge.read_text()


@pytest.mark.long
def test_typescript(tmp_path: Path) -> None:
    """Modules beside each other as the protos are, with the services and the enum's short names."""
    generate(tmp_path, "es", "target=ts:", "protoc-gen-es")
    orders = tmp_path / "midas/order/v1/order_payment_service_pb.ts"
    assert lines(orders, r"^export const (OrderPaymentService):") == ["OrderPaymentService"]
    assert '"../../v1/charge_pb' in orders.read_text()
    charge = tmp_path / "midas/v1/charge_pb.ts"
    assert lines(charge, r"^export enum (\w+)") == ["ChargeState", "ObservedBy"]
    assert lines(charge, r"^  (SUCCEEDED) = 3,") == ["SUCCEEDED"]
