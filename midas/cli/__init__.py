"""The `midas` command: the servers, an operator's client, and the demo.

`app.py` lists the commands, one file each. `trouble.py` says what a failure looks like.
"""
