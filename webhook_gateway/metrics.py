"""What the gateway counts and measures, in the format of Prometheus.

Every label takes its values from a set that is fixed or configured: no sender can make a new time
series.
"""

from collections.abc import Callable
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Unmetered:
    """Connections that nobody counts."""

    def connections(self, count: int) -> None:
        """The number of open connections is now `count`."""

    def evicted(self) -> None:
        """One was closed for another."""

    def answered(self, status: int, outcome: str) -> None:
        """A request was answered."""


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._webhooks = self._labelled(
            "webhooks", "Requests on the webhook port, by the status answered.", "status", "outcome"
        )
        self._events = self._labelled(
            "events", "Events with a valid signature, by type and key.", "type", "key"
        )
        self._evicted = self._counter(
            "connections_evicted", "Connections closed to make room for newer ones."
        )
        self._deliveries = self._labelled(
            "deliveries", "Notifications sent to the order service.", "kind", "outcome"
        )
        self._record_event = Histogram(
            "webhook_gateway_record_event_seconds",
            "How long RecordEvent took, with any answer.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._connections = self._gauge("connections", "Open connections on the webhook port.")
        self._oldest = self._gauge(
            "oldest_undelivered_seconds", "Age of the oldest notification not delivered; 0: none."
        )
        self._parked = self._gauge("parked_orders", "Orders whose notifications wait for a person.")

    def answered(self, status: int, outcome: str) -> None:
        """A request was answered with this status, for this reason."""
        self._webhooks(str(status), outcome).inc()

    def verified(self, event_type: str, key_name: str) -> None:
        """A signature was valid. `event_type` is one of a fixed set."""
        self._events(event_type, key_name).inc()

    def recorded(self, seconds: float) -> None:
        """RecordEvent took `seconds`, with or without an answer."""
        self._record_event.observe(seconds)

    def connections(self, count: int) -> None:
        """The number of open connections is now `count`."""
        self._connections.set(count)

    def evicted(self) -> None:
        """A connection had to make room."""
        self._evicted.inc()

    def delivered(self, kind: str, outcome: str) -> None:
        """An attempt to deliver a notification of this kind ended in this way."""
        self._deliveries(kind, outcome).inc()

    def backlog(self, oldest_undelivered_s: float, parked: int) -> None:
        """How long the oldest undelivered notification waits (0: none), and how many are parked."""
        self._oldest.set(oldest_undelivered_s)
        self._parked.set(parked)

    def exposition(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"webhook_gateway_{name}", text, labels, registry=self._registry)

    def _labelled(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        """The counter of each set of labels, looked up once, because the library is slow at it."""
        return cache(self._counter(name, text, *labels).labels)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"webhook_gateway_{name}", text, registry=self._registry)
