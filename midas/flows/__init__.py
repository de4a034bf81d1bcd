"""What Midas does, step by step: one file for each flow. `payment_calls.py` is the entrance."""
