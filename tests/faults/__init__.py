"""Faults injected for real: signals, limits of the system, full disks, altered bytes, two runs at once."""
