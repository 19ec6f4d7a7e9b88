"""Devices, atomic files and the lifetime of processes."""
