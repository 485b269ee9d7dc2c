"""Erasure methods, one file each; installed as `zbench_methods` and found through entry points."""
