"""Group commit: while one commit is under way, the next changes gather and go together.

After a commit of several, the next one waits a moment for more (`midas.runtime.gathering`): the
callers that were answered are about to make their next changes.

A change is answered only after the commit that holds it. It is written once, even if the connection
breaks. After a lost answer Midas searches for the change by its `change_id`. If it is not there, it
is run again, guarded by the version that it expects. If the lost attempt is written after all, one
of the two finds another version.

A change that the database refuses for a reason of its own is found by halving its batch, and an
alarm is raised. An intent that is certainly not written ends at once: its caller gets the error,
and nothing is lost. Any other change, such as one with a report of Ping++, leaves the queue and is
retried by itself, while the changes of all other orders go on.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from midas import limits
from midas.errors import Overloaded, StorageUnavailable
from midas.payment import Change
from midas.ports import KeyTaken
from midas.runtime.gathering import DELAY, Gathering
from midas.storage.database import Batch, Database, OrderVersion
from midas.storage.faults import (
    InDoubt,
    NotWritten,
    RowRefused,
    RowsRefused,
    StatementRefused,
    StorageFault,
    outcome_of,
)
from midas.storage.rows import storable

_log = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(milliseconds=10)
LONGEST_PAUSE = timedelta(seconds=1)
LAST_ATTEMPT = timedelta(seconds=2)
"""The least time of an attempt. None is cut shorter: that would leave a doubt of its own."""
RECHECK_TIMEOUT = timedelta(seconds=2)
"""The longest that the last search for a lost commit takes, beyond the patience."""

Outcome = bool | KeyTaken | RowRefused | StorageUnavailable


@dataclass(slots=True)
class _Waiting:
    change: Change
    deadline: float
    answer: "asyncio.Future[bool]"


class Commits:
    """The queue of changes in front of one database."""

    def __init__(
        self,
        database: Database,
        patience: timedelta = limits.COMMIT_PATIENCE,
        delay: timedelta = DELAY,
    ) -> None:
        self._database = database
        self._patience = patience.total_seconds()
        self._waiting: list[_Waiting] = []
        self._retrying: dict[str, asyncio.Task[None]] = {}
        """The changes that are retried by themselves, by order_no. Later ones of the order wait."""
        self._retry_turn = asyncio.Lock()
        """One of them is retried at a time: so connections are left to all other changes."""
        self._gathering = Gathering(delay)
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def commit(self, change: Change) -> bool:
        """See `Store.commit`.

        A caller that is cancelled stops nobody's commit, not even its own once the batch is under
        way. Raises Overloaded when too many changes wait already.
        """
        if self._closed:
            raise StorageUnavailable
        if len(self._waiting) + len(self._retrying) >= limits.STORE_WAITING:
            raise Overloaded
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._patience
        waiting = _Waiting(change, deadline, loop.create_future())
        self._waiting.append(waiting)
        self._gathering.came(len(self._waiting))
        self._start_writer()
        return await waiting.answer

    async def close(self) -> None:
        """Write what is waiting, then take nothing more."""
        self._closed = True
        self._gathering.stop()
        while self._writer is not None or self._retrying:
            writer = () if self._writer is None else (self._writer,)
            await asyncio.wait({*writer, *self._retrying.values()})

    def _start_writer(self) -> None:
        """Start the writer, unless it is at work."""
        if self._writer is None:
            writing = self._write_all()
            self._writer = asyncio.get_running_loop().create_task(writing, name="midas-commits")

    async def _write_all(self) -> None:
        """Write until nothing is left but changes that wait behind one that is being retried."""
        taken: list[_Waiting] = []
        try:
            while True:
                # Callers that were answered just now can submit their next changes.
                await asyncio.sleep(0)
                if not self._closed:
                    await self._gathering.wait(len(taken), len(self._waiting))
                taken = self._take()
                if not taken:
                    return
                await self._settle(taken, in_doubt=False)
        except BaseException:
            for each in (*taken, *self._waiting):
                _answer(each, StorageUnavailable(may_have_written=True))
            self._waiting.clear()
            raise
        finally:
            self._writer = None

    def _take(self) -> list[_Waiting]:
        """The next batch: at most one change of each order. The others stay in line."""
        taken: dict[str, _Waiting] = {}
        left: list[_Waiting] = []
        for each in self._waiting:
            order_no = each.change.order_no
            if each.answer.done():
                continue
            must_wait = order_no in taken or order_no in self._retrying
            if must_wait or len(taken) == limits.BATCH_CHANGES:
                left.append(each)
            else:
                taken[order_no] = each
        self._waiting = left
        return [taken[order_no] for order_no in sorted(taken)]

    async def _settle(self, batch: Sequence[_Waiting], *, in_doubt: bool) -> None:
        """Write the batch and answer. A change that is refused is found by halving."""
        attempts = _Attempts(self._database, batch, in_doubt=in_doubt)
        try:
            outcomes = await attempts.run()
        except (RowsRefused, StatementRefused) as refused:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._settle(batch[:middle], in_doubt=attempts.in_doubt)
                await self._settle(batch[middle:], in_doubt=attempts.in_doubt)
                return
            if isinstance(refused, StatementRefused):
                self._isolate(batch[0], refused, in_doubt=attempts.in_doubt)
                return
            outcomes = [outcome_of(refused)]
        for each, outcome in zip(batch, outcomes, strict=True):
            _answer(each, outcome)

    def _isolate(self, refused: _Waiting, reason: StatementRefused, *, in_doubt: bool) -> None:
        """Take a change that the database refuses out of the way of the others."""
        order_no = refused.change.order_no
        fields = {"order_no": order_no, "reason": _error_name(reason), "doubt": in_doubt}
        _log.error("commit_refused", extra=fields)
        if refused.change.is_intent and not in_doubt:
            _answer(refused, StorageUnavailable())
            return
        retrying = self._retry(refused, in_doubt=in_doubt)
        self._retrying[order_no] = asyncio.create_task(retrying, name="midas-commit-retry")

    async def _retry(self, refused: _Waiting, *, in_doubt: bool) -> None:
        """Retry for the rest of the patience: a migration or rights may be under way."""
        attempts = _Attempts(self._database, [refused], in_doubt=in_doubt)
        try:
            _answer(refused, *await attempts.run(self._retry_turn))
        except RowsRefused as rows:
            _answer(refused, outcome_of(rows))
        finally:
            _answer(refused, StorageUnavailable(may_have_written=True))
            del self._retrying[refused.change.order_no]
            if self._waiting:
                self._start_writer()


def _answer(waiting: _Waiting, outcome: Outcome) -> None:
    if waiting.answer.done():
        return
    if isinstance(outcome, bool):
        waiting.answer.set_result(outcome)
    else:
        waiting.answer.set_exception(outcome)


class _Attempts:
    """Writes one batch, as often as needed, while the patience lasts."""

    def __init__(self, database: Database, batch: Sequence[_Waiting], *, in_doubt: bool) -> None:
        self._database = database
        self._batch = batch
        self._deadline = min(each.deadline for each in batch)
        self.in_doubt = in_doubt
        """Whether an attempt was lost on the way: it may be on disk, or still get there."""

    async def run(self, retry_turn: asyncio.Lock | None = None) -> list[Outcome]:
        """One outcome per change. Raises RowsRefused if nothing was written because of a row.

        Raises StatementRefused if the same must not be sent again. A change that is being retried
        has a `retry_turn`: it is sent again all the same, each time with that lock.
        """
        pause = FIRST_PAUSE.total_seconds()
        while (left := self._deadline - time.monotonic()) > 0:
            try:
                async with (
                    asyncio.timeout(max(left, LAST_ATTEMPT.total_seconds())),
                    retry_turn or nullcontext(),
                ):
                    return await self._attempt()
            except (InDoubt, TimeoutError) as error:
                self.in_doubt = True
                reason = _error_name(error)
            except NotWritten as error:
                reason = _error_name(error)
            except StatementRefused as error:
                self.in_doubt |= error.in_doubt
                if retry_turn is None:
                    raise
                reason = _error_name(error)
            _log.warning("commit_tried_again", extra={"reason": reason, "doubt": self.in_doubt})
            await asyncio.sleep(min(pause, max(0.0, self._deadline - time.monotonic())))
            pause = min(pause * 2, LONGEST_PAUSE.total_seconds())
        return await self._outcomes_at_deadline()

    async def _attempt(self) -> list[Outcome]:
        try:
            return await self._check_and_write()
        except (StorageFault, TimeoutError):
            raise
        except Exception as error:  # a defect of Midas: it must not stop everybody's writing
            raise StatementRefused(repr(error), in_doubt=True) from error

    async def _check_and_write(self) -> list[Outcome]:
        stored = await self._stored_change_ids() if self.in_doubt else set()
        missing = [each for each in self._batch if each.change.change_id not in stored]
        written = await self._write(missing) if missing else set()
        if self.in_doubt and len(written) < len(missing):
            # They may have lost against their own first attempt.
            stored |= await self._stored_change_ids()
        return [
            each.change.change_id in stored or each.change.order_no in written
            for each in self._batch
        ]

    async def _stored_change_ids(self) -> set[str]:
        """The ids of this batch's changes that are on disk, with others of the same orders."""
        database = self._database
        keys = database.keys([each.change.order_no for each in self._batch])
        changes = f"SELECT last_change FROM orders WHERE order_no{database.in_keys()}"  # noqa: S608
        entries = (
            f"SELECT change_id FROM journal WHERE order_no{database.in_keys()}"  # noqa: S608
            " AND position = 1"
        )
        found = [*await database.fetch(changes, (keys,)), *await database.fetch(entries, (keys,))]
        return {row[0] for row in found}

    async def _write(self, changes: Sequence[_Waiting]) -> set[str]:
        batch = self._encoded(changes)
        try:
            return await self._database.write(batch)
        except RowsRefused as refused:
            if refused.constraint or len(changes) > 1:
                raise
            # A report of Ping++ must be kept, even if some of its characters cannot.
            cleaned = {name: [storable(row) for row in rows] for name, rows in batch.rows.items()}
            return await self._database.write(Batch(batch.versions, cleaned))

    def _encoded(self, changes: Sequence[_Waiting]) -> Batch:
        batch = Batch([])
        try:
            for each in changes:
                self._database.codec.add(batch.rows, each.change)
                batch.versions.append(_order_version(each))
        except (TypeError, ValueError, RecursionError) as error:
            raise RowsRefused(repr(error), "unencodable") from error
        return batch

    async def _outcomes_at_deadline(self) -> list[Outcome]:
        stored: set[str] = set()
        if self.in_doubt:
            with suppress(StorageFault, TimeoutError):
                async with asyncio.timeout(RECHECK_TIMEOUT.total_seconds()):
                    stored = await self._stored_change_ids()
        return [
            each.change.change_id in stored or StorageUnavailable(may_have_written=self.in_doubt)
            for each in self._batch
        ]


def _error_name(error: Exception) -> str:
    """The driver's name of the error. Its text may quote a user or a value."""
    cause = error.__cause__ or error
    while isinstance(cause, DBAPIError) and cause.orig is not None:
        cause = cause.orig.__cause__ or cause.orig
    return getattr(cause, "sqlite_errorname", "") or type(cause).__name__


def _order_version(waiting: _Waiting) -> OrderVersion:
    change = waiting.change
    return OrderVersion(
        change.order_no,
        change.expected_version,
        change.expected_change,
        change.last_sequence,
        change.change_id,
        change.sequence_floor if change.notifications else None,
        change.renumbers,
    )
