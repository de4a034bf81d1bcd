"""Do the tests notice? One small defect at a time is put in, and the tests of its area must fail.

    uv run python -m tests.mutation            all of it, or what is left of it
    uv run python -m tests.mutation midas/charge.py

`mutants` makes the defects, `areas` says which files and which tests, `trial` runs them and
`survivors.toml` names those that no test can notice, each with its reason.
"""
