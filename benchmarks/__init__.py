"""Benchmarks of gencv_fast against what a user would pick instead; see harness.py for how a case is timed."""
