"""Failovers of a PostgreSQL cluster under load, and three ledgers that must agree afterwards.

uv run python -m tests.failovers --cluster TOOL             five failovers, synchronous
uv run python -m tests.failovers --cluster TOOL --lag 2     five, asynchronous, 2 s of commits lost
"""
