"""The outcomes of the trials, on disk at once, so that a run can be ended and gone on with."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.mutation.areas import ROOT, Trial
from tests.mutation.running import Outcome, Verdict

FOLDER = ROOT / ".mutation"


class Results:
    """The outcomes so far.

    A mutant that was caught stays caught while the function that it is in is the same; one that
    survived is tried again as soon as any file of the product or the tests has changed.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._file = folder / "results.jsonl"
        self._tree = tree_digest()
        self._known: dict[str, Outcome] = {}
        self.read()

    def read(self) -> None:
        """What is on disk, another process's as well."""
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                entry = json.loads(line)
                if entry["outcome"]["verdict"] == Verdict.CAUGHT or entry["tree"] == self._tree:
                    outcome = entry["outcome"]
                    verdict = Verdict(outcome["verdict"])
                    self._known[entry["key"]] = Outcome(verdict, outcome["by"], outcome["seconds"])

    def of(self, trial: Trial) -> Outcome | None:
        """What is known of this mutant."""
        return self._known.get(_key(trial))

    def add(self, trial: Trial, outcome: Outcome) -> None:
        """Write it down."""
        self._known[_key(trial)] = outcome
        name = f"{trial.mutant.path} {trial.mutant.name}"
        entry = {"key": _key(trial), "tree": self._tree, "mutant": name, "outcome": asdict(outcome)}
        with self._file.open("a") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def beside(self, what: str) -> Path:
        """Where something is kept that holds for these very files of the product and the tests."""
        digest = hashlib.sha256(f"{self._tree}\n{what}".encode()).hexdigest()
        return self._folder / f"{digest[:20]}.json"

    def forget(self, trials: Iterable[Trial]) -> None:
        """Forget these, as if they had never been tried."""
        for each in trials:
            self._known.pop(_key(each), None)


def _key(trial: Trial) -> str:
    mutant = trial.mutant
    return hashlib.sha256(f"{mutant.path}\n{mutant.name}\n{mutant.around}".encode()).hexdigest()


def tree_digest() -> str:
    """A digest of every Python file of the product and the tests, without `tests/mutation`."""
    digest = hashlib.sha256()
    for folder in ("midas", "webhook_gateway", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.is_relative_to(ROOT / "tests" / "mutation"):
                digest.update(path.read_bytes())
    return digest.hexdigest()
