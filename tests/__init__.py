"""Tests of zbench; a package, so that they share `tests.tiny`."""
