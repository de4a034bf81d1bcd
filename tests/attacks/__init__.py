"""Attacks on the gRPC port, with a count of what they broke: `python -m tests.attacks --help`.

Each plays a Midas as a process (its real server over scripted flows), good callers that call it all
the time, and an attacker in a process of his own. What is counted are the good callers' calls
before, during and after the attack.
"""
