"""Midas: charges, refunds and queries payments through Ping++, over gRPC.

Importing this package imports nothing else: callers use `midas.v1`, the generated stubs.
"""
