"""`midas demo`: rows of the joint test table, played over real sockets.

- `launch.py` starts the processes, and `child.py` is what runs in them.
- `stage.py` makes them a sandbox, Midas, the webhook gateway and an order service.
- `lookalike.py` and `orders.py` speak with the sandbox and with the order service. What these two
  recorded judges what Midas says.
- `scene.py` is what a row works with, and `rows/` has the rows.
- `play.py` plays them, and `report.py` prints what was observed.

To add a row, write a function that takes a scene, and list it in `rows/__init__.py`.
"""
