"""Midas under every fault: enumerated (T1), at random (T2) and with real kills (T4)."""
