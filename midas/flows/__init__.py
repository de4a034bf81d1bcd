"""What Midas does, step by step. `payments.py` is the entrance; the flows are one file each."""
