"""Puts the contract into the wheel: the `.proto` files with everything that they import.

Google's files come from the packages that publish them, which pyproject.toml names for this hook,
so that no copy is kept here. An editable install does not need them.
"""

import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

IMPORT = re.compile(r'^import (?:public )?"(.+)";', re.MULTILINE)
IN_STATUS = ("status", "code", "error_details")
"""The files of google/rpc that an error's status is made of. No file here imports them."""


class ProtosInWheel(BuildHookInterface):
    """Run by hatchling before it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files, below midas/protos."""
        if version == "editable":
            return
        own = Path(self.root) / "protos"
        folders = (
            own,
            located("googleapis-common-protos", "."),
            located("grpcio-tools", "grpc_tools/_proto"),
        )
        wanted = [str(path.relative_to(own)) for path in own.rglob("*.proto")]
        wanted += [f"google/rpc/{name}.proto" for name in IN_STATUS]
        found: dict[str, Path] = {}
        while wanted:
            name = wanted.pop()
            if name not in found:
                found[name] = next(path for path in (f / name for f in folders) if path.is_file())
                wanted += IMPORT.findall(found[name].read_text(encoding="utf-8"))
        build_data["force_include"] |= {
            str(path): f"midas/protos/{name}" for name, path in found.items()
        }


def located(package: str, folder: str) -> Path:
    """A folder of an installed package."""
    return Path(str(distribution(package).locate_file(folder)))
