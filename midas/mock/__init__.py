"""Mock mode: the whole contract callable at once, for teams that start before their integration.

Every call is answered from its own request alone: nothing is kept, nothing waits, Ping++ is never
asked. It needs what the stubs need and nothing else, so it runs where only `midas` is installed.
Requests are checked by Midas's own rules, and errors come from its own table.

- `answers.py` has one function for each method; `payments.py` and `credentials.py` have the canned
  data.
- `magic.py` and `failures.py` have the answers that a request can ask for.
- `server.py` serves the answers, `notify.py` calls the order service, `command.py` is `midas mock`.
"""
