"""Who may call what, by the client certificate that mutual TLS has checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

COMMON_NAME = "x509_common_name"
ALTERNATIVE_NAME = "x509_subject_alternative_name"


@dataclass(frozen=True, slots=True)
class Callers:
    """For each name in a client certificate the methods that it may call.

    A name is the certificate's common name or one of its subject alternative names. A method is
    `package.Service/Method`, `package.Service/*` or `*`.
    """

    methods: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def permitted(self, identity: Mapping[str, Iterable[bytes]], method: str) -> str | None:
        """The name under which the caller may call the method; None if under none."""
        service = method.partition("/")[0]
        wanted = {method, f"{service}/*", "*"}
        for name in _names(identity):
            if not wanted.isdisjoint(self.methods.get(name, ())):
                return name
        return None


ANYBODY = Callers()
"""No list of callers is set: whoever can connect may call everything."""


def _names(identity: Mapping[str, Iterable[bytes]]) -> Iterable[str]:
    for kind in (COMMON_NAME, ALTERNATIVE_NAME):
        for name in identity.get(kind, ()):
            yield name.decode("utf-8", "replace")
