"""What services around Midas implement: `midas.order.v1`, the order service."""
