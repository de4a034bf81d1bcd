"""How long a test waits for what must happen.

No limit on speed: on a machine that is five times slower, or busy with other things, all of it
still happens in time. It only ends a test in which nothing happens any more. What a test waits for
is an event, a line or a state, never a number of seconds.
"""

PATIENCE_S = 120.0
