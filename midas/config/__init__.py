"""The settings of the server, what they must hold, and where they are read."""
