"""The attacks by name, and what they may do at the most."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.attacks.attacker import NO_HANDSHAKE
from tests.attacks.stage import Damage

SERVED_AGAIN_S = 5.0
"""Within so many seconds of the attacker's end every good caller is served."""
MEMORY_MIB = 600


@dataclass(frozen=True)
class Attack:
    """One attack."""

    kind: str
    options: tuple[str, ...]
    certificate: str = "stranger"
    """The name in his certificate; the empty one has none, and cannot shake hands."""
    settings: Mapping[str, str] = field(default_factory=dict)
    named: bool = True
    """Whether the log has to name him."""
    may_break: int = 0

    def too_much(self, damage: Damage, served_again_s: float = SERVED_AGAIN_S) -> str:
        """What it did beyond what is allowed; empty if nothing."""
        broken = sum(damage.during.broken.values())
        if sum(damage.before.broken.values()):
            return "something was wrong before it began"
        if broken > self.may_break:
            return f"{broken} good calls were broken"
        if not damage.during.served:
            return "no good call was served"
        if damage.served_again_s > served_again_s or damage.after.broken:
            return "good callers were not served again in time"
        if damage.rss_mib > MEMORY_MIB:
            return f"Midas took {damage.rss_mib} MiB"
        if self.named and not damage.named:
            return "the log does not name him"
        return ""


FEW_FILES = {"OPEN_FILES": "1024"}


def _many(connections: int, streams: int = 1064) -> tuple[str, ...]:
    return ("--connections", str(connections), "--streams", str(streams))


ATTACKS = {
    "headers": Attack("headers", _many(1)),
    "headers-of-ten": Attack("headers", _many(10)),
    "headers-of-a-caller": Attack("headers", _many(10), "order-service"),
    "watches": Attack("watches", _many(10)),
    "resets": Attack("resets", _many(1)),
    "resets-of-a-caller": Attack("resets", _many(1), "order-service"),
    "resets-of-ten": Attack("resets", _many(10)),
    "idle": Attack("idle", (*_many(1500), "--seconds", "12"), settings=FEW_FILES),
    "idle-without-a-certificate": Attack(
        NO_HANDSHAKE, (*_many(1500), "--seconds", "12"), certificate="", settings=FEW_FILES
    ),
    "bombs": Attack("bombs", _many(1, 100)),
    "bombs-of-a-caller": Attack("bombs", _many(1, 100), "order-service"),
}
