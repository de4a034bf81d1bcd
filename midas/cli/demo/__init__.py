"""`midas demo`: rows of the joint test table, played over real sockets.

`stage.py` puts up the processes and keys, `scene.py` is what a row works with, `rows/` are the
rows, `report.py` tells what was seen. To add a row: write a function of a scene, and list it in
`rows/__init__.py`.
"""
