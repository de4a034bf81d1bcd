"""Plays one schedule again, with its log: what a failed enumeration names at its end.

    uv run python -m tests.faults.replay STORY CHANNEL SCHEDULE [LOST_COMMIT [odd]]

SCHEDULE names each fault as CALLS:WAY, joined by commas: so many calls through a port go well, then
one goes this way; `-` is none. LOST_COMMIT is the number of the commit that a failover loses, 0 for
none; `odd`: questions get odd answers.
"""

import asyncio
import sys

from midas.runtime.logs import configure
from tests.faults.exploring import OFFERS, described, read, story_of


def main() -> None:
    """Log to standard error, print the story on standard output."""
    if len(sys.argv) not in (4, 5, 6):
        sys.exit(__doc__)
    story, channel, schedule, *more = sys.argv[1:]
    logs = configure("INFO")
    loses, odd = int(more[0]) if more else 0, more[1:] == ["odd"]
    text = asyncio.run(
        described(story_of(story), OFFERS[channel], read(schedule), loses=loses, odd=odd)
    )
    logs.close()
    print(text)


if __name__ == "__main__":
    main()
