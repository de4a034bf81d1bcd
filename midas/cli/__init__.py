"""The `midas` command: the servers, an operator's client, and the demo.

`app.py` lists the commands, one file each. `call_errors.py` prints failures.
"""
