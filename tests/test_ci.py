"""What `.ci/run` says where it cannot begin."""

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parent.parent / ".ci" / "run"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def ran(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of it, as if this folder were the checkout."""
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(RUN, checkout / ".ci")
    command = ["bash", str(checkout / ".ci" / "run"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_missing_shared_folder_is_reported(tmp_path: Path) -> None:
    """What is missing, where it has to lie, what would be skipped, and how to run without it."""
    done = ran(tmp_path / "a checkout")
    assert done.returncode == 1
    assert f"{tmp_path}/shared/fixtures/INDEX.md is missing" in done.stderr
    assert "beside this checkout" in done.stderr
    assert "would be skipped" in done.stderr
    assert ".ci/run --without-fixtures" in done.stderr


def test_without_it_everything_else_runs(tmp_path: Path) -> None:
    """It goes on to the clone, which this folder is nothing to make of."""
    done = ran(tmp_path / "checkout", "--without-fixtures")
    assert "a clone called midas" in done.stdout
    assert "missing" not in done.stderr


def test_what_it_does_not_know_is_reported(tmp_path: Path) -> None:
    """The ways to call it; nothing is run."""
    done = ran(tmp_path / "checkout", "--witout-fixtures")
    assert done.returncode == 2
    assert ".ci/run --without-fixtures" in done.stderr
    assert done.stdout == ""
