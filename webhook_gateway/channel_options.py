"""Options for the gateway's two channels: back within a second, never hung on a dead connection.

grpc's own defaults wait up to two minutes between two attempts to connect, and notice a peer that
vanished without a word only when the kernel does, a quarter of an hour later.
"""

_INSIDE = (
    # a proxy to the outside never leads to an inside service
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
"""For the channel to Midas, which allows a ping every 10 seconds."""

ORDER_CHANNEL = (
    *_INSIDE,
    # by default a grpc server closes the connection at a ping more often than
    # every 5 minutes; with keepalive on, bytes that nobody acknowledges end it after the timeout
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
"""For the channel to the order service, whose settings are not ours."""
