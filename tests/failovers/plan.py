"""How large a run is, and how patient its Midas are."""

import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. The defaults are those of the command."""

    rounds: int = 5
    """Failovers, one after the other."""
    lag_s: float = 0.0
    """0: synchronous replication. Else none, and each failover loses the commits of so long."""
    orders: int = 60
    """So many are begun before each failover, and after each revival."""
    callers: int = 8
    pause_s: float = 0.5
    """The longest that a caller waits between two orders."""
    late_s: float = 15.0
    """So late are some payers, at the most."""
    commit_patience_s: float = 60.0
    """Longer than a failover takes, also on a busy machine."""
    settle_window_s: float = 20.0
    psp_timeout_s: float = 10.0
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(10**6))
    """Repeats the choices of a run; the timing is the machine's."""

    @property
    def lossy(self) -> bool:
        """Whether failovers lose commits."""
        return self.lag_s > 0

    @property
    def settings(self) -> dict[str, str]:
        """Of each Midas."""
        return {
            "WORKERS": "2",
            "COMMIT_PATIENCE_S": f"{self.commit_patience_s:g}",
            "SETTLE_WINDOW_S": f"{self.settle_window_s:g}",
            "PSP_TOTAL_TIMEOUT_S": f"{self.psp_timeout_s:g}",
            "PSP_CONNECT_TIMEOUT_S": "5",
            "DRAIN_TIMEOUT_S": "5",
        }
