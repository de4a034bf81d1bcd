"""The webhook gateway: takes in Ping++'s webhooks, and delivers what follows to the order service."""
