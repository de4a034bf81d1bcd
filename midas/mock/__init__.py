"""Mock mode: the whole contract callable at once, for teams that start before their integration.

Every call is answered from its own request alone: nothing is kept, nothing waits, Ping++ is never
asked. It needs what the stubs need and nothing else, so it runs where only `midas` is installed.

`answers.py` has one function for each method, `payments.py` and `credentials.py` the canned data,
`magic.py` and `failures.py` what can be asked for, `server.py` serves it, `notify.py` calls the
order service, `command.py` is `midas mock`. Requests are checked by Midas's own rules,
and errors come from its own table.
"""
