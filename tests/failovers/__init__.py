"""Failovers of a PostgreSQL cluster under load, and three ledgers that must agree afterwards.

    uv run python -m tests.failovers --cluster TOOL            five, synchronous
    uv run python -m tests.failovers --cluster TOOL --lag 2    five, asynchronous, each loses 2 s

Two Midas, two gateways, an order service and the sandbox in Ping++'s place, each a process of its
own but the sandbox, go on while the primary is killed, another one takes over, and the killed one
comes back. Callers charge, refund, query and repeat all of it at both Midas; payers pay all that
they are handed; some answers of Ping++ are lost. Then the load ends, and all that is open comes to
its end. What is compared, order by order:

- the sandbox's ledger: the money that has really moved;
- Midas's tables;
- what the order service has accepted.

Synchronous: nothing is lost, doubled or different. Asynchronous, commits are lost, and a difference
is allowed where some Midas has called an operator to that very order (a line at level error); one
without such an alarm fails the run. In both, nothing was taken under one sequence that had another
content or another id before, and each caller got an answer that a caller may get.

The last lines are a table, and everything that is known of an order for each difference that fails
the run. Exit status 0: it holds; 1: it does not; 2: there was no cluster to try it on. A run takes
about a minute for each failover. All logs are kept, in a folder that the last line names.

TOOL, or MIDAS_HA_CLUSTER in the environment, is a program that makes a cluster of at least two
nodes. It is no part of this repository. For a folder DIR that it may make and remove:

    TOOL up DIR [--sync]                         prints DATABASE_URL=…, of a database that is empty
    TOOL kill-primary DIR --wait [--lag S]       `kill -9`, after S seconds without replication
    TOOL revive DIR --wait                       the killed node is back, and follows
    TOOL down DIR                                ends all of it

`--wait`: it returns when DATABASE_URL takes writes, or all nodes are there again. PROMOTED_AFTER_S=
and WRITES_AFTER_S=, where kill-primary prints them, get into the table.

`cluster` runs the tool, `stage` the processes, `load` the callers, `quiet` waits for the end,
`ledgers` gathers, `judge` compares and `report` prints. `test_drill.py` runs all of it without a
cluster and without failovers.
"""
