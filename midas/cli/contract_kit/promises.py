"""The promises of midas.order.v1.OrderPaymentService, one by one."""

from typing import NamedTuple


class Promise(NamedTuple):
    """One promise."""

    id: str
    text: str
    """What a receiver that keeps it does."""
    advice: str
    """What to change where it is broken."""
    needs: tuple[str, ...] = ()
    """The options without which it cannot be judged."""
    without: str = ""
    """What is lost without it, if it may be left out."""


EFFECTS = "--effects-command"
RESTART = "--restart-command"

PROMISES = (
    Promise(
        "takes-every-kind",
        "answers OK to each of the four calls",
        "Implement all four calls. If only orders that exist are known, create them with "
        "--create-command. A notification that is refused parks its order until a person looks.",
    ),
    Promise(
        "applies-once",
        "has one effect for each notification that it acknowledged",
        "Apply the notification in the transaction that records its sequence, before answering OK.",
        (EFFECTS,),
    ),
    Promise(
        "acknowledges-repeats",
        "answers OK to a notification that it has received before",
        "A repeat is no error: Midas did not get the first answer. Answer OK, or it is sent for "
        "ever (or parked, with INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, UNIMPLEMENTED).",
    ),
    Promise(
        "ignores-repeats",
        "does nothing when a notification comes again",
        "Keep the highest sequence of each order and ignore notifications that are not above it.",
        (EFFECTS,),
    ),
    Promise(
        "acknowledges-copies-at-once",
        "takes copies of one notification that arrive at the same time",
        "At least one copy must be answered OK, and none with a status that parks the order. "
        "Answer ABORTED or UNAVAILABLE while another call writes, or wait for it.",
    ),
    Promise(
        "ignores-copies-at-once",
        "has one effect when copies arrive at the same time",
        "Decide and write in one transaction: a unique key or a locked row of the order. "
        "Looking first and writing later lets both copies through.",
        (EFFECTS,),
    ),
    Promise(
        "acknowledges-older",
        "answers OK to an older notification after later ones",
        "A sender that was paused sends an old one late. It is not an error: answer OK.",
    ),
    Promise(
        "ignores-older",
        "does nothing when an older notification comes after later ones",
        "Compare with the highest sequence of the order, not with the last message or its id.",
        (EFFECTS,),
    ),
    Promise(
        "takes-gaps",
        "takes every notification above the highest sequence that it has",
        "Midas sends n+1 only after n was acknowledged, so a gap is this side's own loss (a "
        "restored backup, a service that came later). Take it and raise an alarm; refuse nothing.",
    ),
    Promise(
        "takes-new-epochs",
        "takes sequences of later epochs, up to 2^53",
        "After a failover or a restore of its database Midas goes on in a new epoch, far above. "
        "Keep sequences in 64 bits (bigint, int64, a JavaScript number), not in 32.",
    ),
    Promise(
        "counts-money-once",
        "counts a payment and a refund once that are announced again under another sequence",
        "After its database has lost commits Midas may announce the same once more, and does not "
        "always know it. Book by out_trade_no and refund_no, not by message.",
        (EFFECTS,),
    ),
    Promise(
        "notices-used-sequences",
        "answers SEQUENCE_REUSED when a sequence comes again with another notification_id",
        "Keep notification_id beside the highest sequence. Another id under it: "
        "FAILED_PRECONDITION with google.rpc.ErrorInfo (reason SEQUENCE_REUSED, domain midas, "
        "metadata sequence: the highest one). midas/sandbox/orders/service.py shows how.",
        without="Midas never uses a sequence twice, but by a mistake of people (a restored copy of "
        "its database, and no `midas migrate --restored`). This service would then take what is "
        "new for a repeat, and neither side would notice before the books are compared.",
    ),
    Promise(
        "takes-late-money",
        "takes a payment after the order was closed, and one that paid the order again",
        "`late` and `duplicate_payment` are about money that has moved. Refusing it does not "
        "send it back: record it, answer OK, and refund it.",
    ),
    Promise(
        "takes-refunds-made-elsewhere",
        "takes a refund that nobody asked for, made in Ping++'s dashboard",
        "Its refund_no is Ping++'s id (re_…) and the money is back already: book it under that "
        "number and answer OK. NOT_FOUND, because nobody here asked for it, parks the order.",
    ),
    Promise(
        "takes-what-is-new",
        "takes notifications with fields and enum values that it does not know",
        "The contract grows. Ignore fields that you do not know, and treat an unknown enum value "
        "as unspecified.",
    ),
    Promise(
        "survives-callers-that-go-away",
        "takes a notification again whose caller did not wait for the answer",
        "A call that is cancelled is either not done or done: commit or roll back, free the lock, "
        "and take the repeat.",
    ),
    Promise(
        "keeps-orders-apart",
        "answers for one order while many calls of another are under way",
        "Lock per order, not for all, and do not let the calls of one order use up all workers.",
    ),
    Promise(
        "answers-in-time",
        "answers every call within the time that Midas waits",
        "Do slow work after the answer: record, answer OK, then act on what was recorded.",
    ),
    Promise(
        "remembers-over-a-restart",
        "answers OK, after a restart, to what it acknowledged before, and takes what follows",
        "Read the highest sequence from the database, not from memory.",
        (RESTART,),
    ),
    Promise(
        "ignores-repeats-after-a-restart",
        "does nothing, after a restart, when notifications from before come again",
        "The highest sequence of each order must be on disk, written with the effect.",
        (RESTART, EFFECTS),
    ),
    Promise(
        "durable-before-ok",
        "has on disk what it answered OK to, also when it is killed right after",
        "Answer after the commit, not before it. For a queue: after the queue has it on disk.",
        (RESTART, EFFECTS),
    ),
)

BY_ID = {promise.id: promise for promise in PROMISES}
