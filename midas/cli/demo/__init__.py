"""`midas demo`: rows of the joint test table, played over real sockets.

`launch.py` starts the processes (`child.py` is what runs in them), `stage.py` makes a sandbox and
Midas of them, `scene.py` is what a row works with, `rows/` are the rows, `play.py` plays them and
`report.py` tells what was seen. To add a row: write a function of a scene, and list it in
`rows/__init__.py`.
"""
