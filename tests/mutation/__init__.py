"""Do the tests notice? One small defect at a time is put in, and the tests of its area must fail.

    uv run python -m tests.mutation            all of it, or what is left of it
    uv run python -m tests.mutation midas/charge.py

`mutants` makes the defects, `areas` says which files and which tests, `reach` finds out which test
gets to which function, `trial` is one mutant against its tests, `running` ends a trial that does
not end, `results` keeps what was found, and `survivors.toml` names those that no test can notice,
each with its reason.
"""
