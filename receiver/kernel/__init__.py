"""Kernel hooks to numpy records: the only package that touches bpf(2), ctypes and tracefs."""
