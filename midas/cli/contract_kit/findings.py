"""What was observed of each promise, and its state."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from midas.cli.contract_kit.promises import BY_ID, PROMISES, Promise

State = Literal["kept", "broken", "left out", "not judged"]


@dataclass(slots=True)
class Finding:
    """What was observed of one promise."""

    promise: Promise
    tested: int = 0
    """How often it was put to the test."""
    evidence: list[str] = field(default_factory=list)
    """Each time that it was broken, as a sentence."""
    obstacles: list[str] = field(default_factory=list)
    """Why it could not be judged."""

    @property
    def state(self) -> State:
        """A promise is broken if one test broke it, and kept if it was tested without an obstacle.

        A promise that may be left out is never broken.
        """
        if self.evidence:
            return "left out" if self.promise.without else "broken"
        return "kept" if self.tested and not self.obstacles else "not judged"


class Findings:
    """The findings on all promises."""

    def __init__(self) -> None:
        self._findings = {promise.id: Finding(promise) for promise in PROMISES}

    def record(self, promise_id: str, kept: bool, otherwise: str) -> None:
        """Record a test of a promise; `otherwise` says what happened if it was not kept."""
        finding = self._findings[promise_id]
        finding.tested += 1
        if not kept and otherwise not in finding.evidence:
            finding.evidence.append(otherwise)

    def miss(self, promise_id: str, why: str) -> None:
        """Record that a promise could not be judged."""
        obstacles = self._findings[promise_id].obstacles
        if why not in obstacles:
            obstacles.append(why)

    def without(self, missing: set[str]) -> None:
        """Record that these options were not given."""
        for promise in BY_ID.values():
            wanted = [option for option in promise.needs if option in missing]
            if wanted:
                self.miss(promise.id, f"needs {' and '.join(wanted)}")

    def all(self) -> list[Finding]:
        """All findings, in the order of the contract."""
        return list(self._findings.values())

    def counts(self) -> dict[State, int]:
        """How many promises are in each state."""
        counts: dict[State, int] = defaultdict(int)
        for finding in self.all():
            counts[finding.state] += 1
        return counts
