"""`midas contract-kit`: judges whether an order service keeps the promises of midas.order.v1.

- `promises.py`: what is judged, and what to change where it is not kept.
- `scenarios.py`: what is sent.
- `findings.py`: what was seen, and the verdict on each promise.
- `target.py`, `notices.py`, `probes.py`: the order service, what it is told, what it shows.
- `report.py`, `command.py`: the output and the command.

It sees answers. What an order service did with a notification, and whether it remembers over a
restart, only its own side can show: with a command that prints the effects, and one that restarts
it. A promise that could not be judged is never counted as kept.
"""
