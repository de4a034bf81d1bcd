"""The webhook gateway: webhooks of Ping++ come in, notifications to the order service go out."""
