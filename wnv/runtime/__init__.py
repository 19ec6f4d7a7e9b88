"""What every room stands on: devices, atomic files and the lifetime of processes."""
