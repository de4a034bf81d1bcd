"""Speed as CPU per operation, in ratios to baselines measured in the same run.

`python -m tests.benchmarks` runs all of it and prints one table. Each server under measurement, the
stub in place of Ping++ and the load generator are processes of their own, and the CPU is that of
the server's process alone, or of all that Midas and the gateway need for an event: machines are
shared, and wall-clock times of a busy one mean little.
"""
