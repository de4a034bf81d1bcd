"""How a process of Midas runs, logs and reads its settings. Nothing here knows of payments."""
