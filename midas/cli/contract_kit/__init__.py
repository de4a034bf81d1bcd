"""`midas contract-kit`: judges whether an order service keeps the promises of midas.order.v1.

- `promises.py`: what is judged, and what to change where it is not kept.
- `scenarios.py`: what is sent.
- `findings.py`: what was observed of each promise, and its state.
- `target.py`, `notices.py`, `probes.py`: the order service, the notifications that it gets, the
  effects that it shows.
- `report.py`, `command.py`: the output and the command.

The kit itself observes only answers. Two commands of the order service's own side show the rest:
one prints the effects of notifications, and one restarts the service. A promise that could not be
judged is never counted as kept.
"""
