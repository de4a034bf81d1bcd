"""Options for the gateway's two channels, so that they reconnect within a second.

grpc's own defaults wait up to two minutes between two attempts to connect. They notice a peer that
vanished only when the kernel does, a quarter of an hour later.
"""

_INSIDE = (
    # a proxy to the outside never leads to an internal service
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # how long one attempt to connect may take
    ("grpc.min_reconnect_backoff_ms", 5000),
)

MIDAS_CHANNEL = (
    *_INSIDE,
    # 256 notifications, each with its charge and all refunds
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
"""The options of the channel to Midas, which allows a ping every 10 seconds."""

ORDER_CHANNEL = (
    *_INSIDE,
    # a grpc server by default closes a connection with more than one ping in 5 minutes; with
    # keepalive on, bytes that nobody acknowledges end it after the timeout
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
"""The options of the channel to the order service, whose own settings may differ."""
