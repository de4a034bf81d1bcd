"""The settings of the gateway, what they must hold, and where they are read."""
