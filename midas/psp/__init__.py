"""Ping++, the payment service provider: the only package that knows its wire format."""
