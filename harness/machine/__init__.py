"""The machine under a run: its fingerprint, its GPUs, and whose a process on it is."""
