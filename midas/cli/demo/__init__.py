"""`midas demo`: rows of the joint test table, played over real sockets.

`launch.py` starts the processes (`child.py` is what runs in them), `stage.py` makes a sandbox,
Midas, the webhook gateway and an order service of them. `lookalike.py` and `orders.py` are how to
reach the first and the last, which judge what Midas says. `scene.py` is what a row works with,
`rows/` are the rows, `play.py` plays them and `report.py` prints what was observed. To add a row:
write a function of a scene, and list it in `rows/__init__.py`.
"""
