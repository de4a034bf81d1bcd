"""The errors that a caller gets when Midas does not do what was asked.

    MidasError
    ├── InvalidRequest           some fields cannot be accepted; nothing was written or sent
    ├── NotFound                 no such order, charge or refund here
    ├── OrderAlreadyPaid         the order is paid and not refunded in full
    ├── ChargeRefused            Ping++ or the channel refused: proven not done
    ├── RefundNotAllowed         the charge is in no state to be refunded, or it is not clear which
    ├── RefundExceedsRemaining   more than is left
    ├── RefundNoReused           this refund_no belongs to a refund with other content
    ├── EventIdReused            this event id belongs to an event with another body
    ├── OutcomeUnknown           money may have moved; nobody knows yet
    ├── ChargeStillOpen          the earlier charge could not be closed yet; no second one was made
    ├── ChargeNotMade            an earlier charge was dealt with; no other one was made after it
    ├── Throttled                Ping++ refused because of its rate limit: proven not done
    ├── PspRejectsMidas          Ping++ refused Midas's own key or signature: proven not done
    ├── PspUnavailable           Ping++ could not be reached or is resting: nothing was sent
    ├── Overloaded               a bound of Midas's own is reached: nothing was sent
    └── StorageUnavailable       the database cannot be used now: nothing was sent

`midas/rpc/errors.py` maps each of them to one gRPC status. `SettingsError` is not in that tree: it
stops a process before it serves. `SchemaRefused` is a SettingsError; it also makes a process that
serves not ready.
"""

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that cannot be accepted: its path in the request, and what to do about it."""

    field: str
    description: str


@dataclass(eq=False)
class MidasError(Exception):
    """The root. Its fields are ids and numbers, so that no sentence has to be parsed."""

    def __post_init__(self) -> None:
        Exception.__init__(self, type(self).__name__)


@dataclass(eq=False)
class InvalidRequest(MidasError):
    """Some fields cannot be accepted. Nothing was written and nothing was sent."""

    violations: tuple[FieldViolation, ...]


@dataclass(eq=False)
class NotFound(MidasError):
    """Nothing is stored under this key. `kind` is order, charge or refund."""

    kind: str
    key: str


@dataclass(eq=False)
class OrderAlreadyPaid(MidasError):
    """The order is paid by this charge and not refunded in full. Nothing was sent."""

    order_no: str
    out_trade_no: str


@dataclass(eq=False)
class ChargeRefused(MidasError):
    """Ping++ answered that it did not make the charge, or that its payment failed."""

    order_no: str
    out_trade_no: str
    code: str
    message: str
    param: str = ""


@dataclass(eq=False)
class RefundNotAllowed(MidasError):
    """The charge cannot be refunded as it stands. `reason` is a constant name. Nothing was sent."""

    reason: str
    order_no: str = ""
    out_trade_no: str = ""


@dataclass(eq=False)
class RefundExceedsRemaining(MidasError):
    """It is more than what is left after all refunds that succeeded, are pending or unknown."""

    order_no: str
    out_trade_no: str
    amount: int
    remaining: int
    currency: str


@dataclass(eq=False)
class RefundNoReused(MidasError):
    """The refund_no belongs to a refund with other content. Nothing was written or sent."""

    refund_no: str


@dataclass(eq=False)
class EventIdReused(MidasError):
    """An event of Ping++ with this id and another body was recorded before. Nothing was written."""

    event_id: str


@dataclass(eq=False)
class OutcomeUnknown(MidasError):
    """Money may have moved, and nobody knows yet. The same key is always safe to repeat."""

    order_no: str
    out_trade_no: str = ""
    refund_no: str = ""
    query_after: timedelta = field(default=timedelta(seconds=5))
    needs_operator: bool = False


@dataclass(eq=False)
class ChargeStillOpen(MidasError):
    """Ping++ could not be asked to close the earlier charge; no second one was made."""

    order_no: str
    out_trade_no: str
    retry_after: timedelta = field(default=timedelta(seconds=2))


@dataclass(eq=False)
class ChargeNotMade(MidasError):
    """The earlier charge was dealt with, and perhaps closed; then no other one could be made.

    No money moved. The database or Ping++ became unreachable in between.
    """

    order_no: str
    out_trade_no: str
    retry_after: timedelta = field(default=timedelta(seconds=2))


@dataclass(eq=False)
class Throttled(MidasError):
    """Ping++ answered that its limit of calls is reached. It did nothing.

    `queued`: a refund stays written down and goes out by itself.
    """

    retry_after: timedelta = field(default=timedelta(seconds=2))
    queued: bool = False


@dataclass(eq=False)
class PspRejectsMidas(MidasError):
    """Ping++ refused Midas's key or signature. It did nothing; an operator has to act.

    `queued`: a refund stays written down and goes out by itself once the key is right.
    """

    queued: bool = False


@dataclass(eq=False)
class PspUnavailable(MidasError):
    """Ping++ could not be reached, or calls rest after too many failures. Nothing was sent.

    `queued` says that a refund stays written down and goes out as soon as Ping++ can be reached.
    """

    retry_after: timedelta = field(default=timedelta(seconds=5))
    queued: bool = False


@dataclass(eq=False)
class Overloaded(MidasError):
    """Midas works on as many calls as it allows. Nothing was written and nothing was sent."""

    retry_after: timedelta = field(default=timedelta(seconds=1))


@dataclass(eq=False)
class StorageUnavailable(MidasError):
    """The database cannot be used now. Nothing was sent to Ping++ because of this call.

    `may_have_written`: the connection was lost during the commit, so the intent may be on disk; the
    same key finds it.
    """

    may_have_written: bool = False
    retry_after: timedelta = field(default=timedelta(seconds=1))


class SettingsError(Exception):
    """Settings keep the process from starting. The text names them and what to do.

    `mistakes` has a sentence for each. None of them repeats the value of a setting that
    can hold a secret, or of one that cannot be read.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class SchemaRefused(SettingsError):
    """The database's schema is one on which this Midas may not work. Nothing was read or written.

    `found` is the revision of the database (empty: none), `oldest` the oldest that code must know
    to work on it, `known` the one that this Midas knows.
    """

    def __init__(self, sentence: str, *, found: str, oldest: str, known: str) -> None:
        super().__init__(sentence)
        self.found = found
        self.oldest = oldest
        self.known = known
