"""Stages: functions from files to files, each with an identity of its own (erase, generate, score)."""
