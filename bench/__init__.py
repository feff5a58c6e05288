"""Benchmarks: ratios and figures of one run on one machine; never part of the tests. See docs/performance.md."""
