"""Every bound of Midas by name. `midas/config/settings.py` has the settings for some of them."""

from datetime import timedelta

# Requests
ORDER_NO_CHARACTERS = 64
REFUND_NO_CHARACTERS = 64
CHANNEL_CHARACTERS = 32
AMOUNT_MAX = 100_000_000_000
"""The highest amount, in minor units. Ping++ documents none for a charge (pingpp.md section 13);
this one keeps a mistyped amount from becoming a payment."""
DESCRIPTION_CHARACTERS = 255
METADATA_PAIRS = 20
METADATA_CHARACTERS = 1000
EVENT_ID_CHARACTERS = 64
EXTRA_BYTES = 16_384
EXTRA_DEPTH = 8
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
REQUEST_BYTES = 256 * 1024
REQUEST_BYTES_READ = REQUEST_BYTES + 64 * 1024
"""The most that grpc reads of a message, unpacked. It is a little more than what is accepted: a
caller just above that gets an error with all details. grpc refuses longer messages without them."""
CONCURRENT_RPCS = 1000
CONNECTIONS = 1000
"""The most connections of callers to the gRPC port."""
FLOWS_UNDER_WAY = 2 * CONCURRENT_RPCS
"""Flows outlive their callers, so they have a bound of their own."""

# Ping++
PSP_CONNECT_TIMEOUT = timedelta(seconds=5)
PSP_TOTAL_TIMEOUT = timedelta(seconds=30)
PSP_CONCURRENT_CALLS = 256
PSP_ANSWER_BYTES = 4 * 1024 * 1024
PSP_LIST_PAGES = 50
"""How many pages of a list are read, of 100 objects each. A longer list proves no absence."""
SWEEP_PAGES = 300
"""The same where one look answers for all unknown charges of a channel; `flows/sweep.py` says how
busy a channel that is enough for."""
SWEEP_TIME = timedelta(minutes=5)
"""The longest that such a look may take."""

# Finishing what is unknown
SETTLE_WINDOW = timedelta(minutes=15)
"""How long Ping++ may still carry out a request that we gave up on, and how long its lists may lag.
It is not documented (pingpp.md section 13), so it is chosen generously."""
DECLINED_SETTLE = timedelta(seconds=90)
"""The same for a bar code that the channel declined and Ping++ does not list: its payer may be
typing the PIN."""
DECLINED_LOOK = timedelta(seconds=10)
"""How long the caller whose bar code was declined waits until that is certain."""
EXPIRY_GRACE = timedelta(minutes=2)
"""A payment made just before the expiry may become visible this much later."""
CLOCK_SKEW = timedelta(minutes=15)
"""How far Ping++'s clock may be from ours when we look up a charge by its time of creation, while
that is not measured."""
CLOCK_SKEW_KEPT = timedelta(minutes=1)
"""How far it may be from what is measured: Ping++'s machines need not agree among themselves."""
CLOCK_STEP = timedelta(minutes=5)
"""Clocks that are further apart than this, or have been, are not believed."""
UNKNOWN_PATIENCE = timedelta(days=1)
"""An outcome that is still unknown after this long is given to a person."""
REPOST_MARGIN = timedelta(seconds=15)
"""A charge is posted again only while the window in which Ping++ takes it for the same one stays
open at least this long."""
RUN_FIRST_LOOKS = 20
"""How many first looks of a run must find nothing at all to prove a wrong key or app."""
RESOLVE_BATCH = 200
"""How many orders are looked at together: one look through Ping++'s lists answers for many."""
RESOLVE_AT_ONCE = 8
"""How many of these orders are worked on at a time. Others wait for their turn or for that look."""
RESOLVE_CLAIM = timedelta(seconds=60)
POLL_ROWS_DEFAULT = 10_000
"""The most rows that one run of PollPending looks at, where the caller names no number."""
POLL_ROWS_MAX = 100_000
POLL_TIME = timedelta(seconds=60)
"""How long a run takes at most, where the caller sets no deadline."""
POLL_MARGIN = timedelta(seconds=1)
"""A run starts no look when less than this is left of its time."""
POLL_BATCH = 64
"""Rows that are claimed together."""
POLL_AT_ONCE = 16
"""Orders that one run asks about at a time."""
POLL_CLAIM = timedelta(minutes=2)
"""How long claimed rows are left to the run: longer than the looks at one batch take."""
POLL_DAILY = timedelta(days=1)
"""How long a row rests whose look was answered and planned no other one."""
POLL_OVERDUE = timedelta(minutes=10)
"""A look that is due for longer is a warning: nobody calls PollPending, or Ping++ is away."""
CONFLICT_RETRIES = 200
"""How often a change is decided anew because another process was faster. With four processes that
each have many commits of one order, most succeed within ten and all within fifty."""
CONFLICT_PAUSE_MAX_MS = 20
"""The longest pause in between: about what reading an order and writing it may take."""

# Events and notifications
EVENT_BYTES = REQUEST_BYTES - 1024
EVENTS_TOGETHER = 64
"""The most events in one call of RecordEvents."""
EVENT_IDS_REMEMBERED = 4096
"""How many ids of the newest events are remembered: their repetition needs no look on disk."""
EVENT_MEMORY = timedelta(minutes=1)
"""How long they are remembered."""
EVENT_BATCH = 50
EVENT_CLAIM = timedelta(seconds=60)
"""How long an event that could not be applied waits for the next attempt."""
EVENT_ATTEMPTS = 8
"""How many attempts to apply an event may fail before it is parked."""
NUMBER_SKEW = timedelta(days=1)
"""How far Ping++'s `created` may be from the time in the number of a charge that Midas made. A
random number of the same form is as near once in fifty thousand times."""
REFUND_AGE_MAX = timedelta(days=400)
"""The same for a refund, whose `created` is the time of the refund. Channels refund until a year
after the charge at the latest (pingpp.md section 3)."""
UNKNOWN_ORDERS_LOGGED = timedelta(hours=1)
"""How often the number of events of unknown orders is logged."""
LEASE_DEFAULT = 32
LEASE_MAX = 256
LEASE_WAIT_MAX = timedelta(seconds=60)
NOTIFICATION_LEASE = timedelta(seconds=30)
NOTIFICATION_LOOK_S = 0.5
"""How often a waiting call looks for notifications that another process has written."""
NOTIFICATION_PAUSE_MAX_S = 300
"""The pauses between attempts are 1, 2, 4 … seconds, up to this long; each is cut by up to half."""
BACKLOG_AGE_S = 5.0
"""How old the count of what waits may be when it is handed out."""

# Storage
BATCH_CHANGES = 256
"""The most changes that share one commit."""
COMMIT_PATIENCE = timedelta(seconds=10)
"""How long a write is tried again when the database is locked, restarting or failing over."""
STORE_WAITING = 4096
"""The most writes that may wait for their commit."""

# The process
DRAIN_DELAY = timedelta(seconds=5)
DRAIN_TIMEOUT = timedelta(seconds=20)
