"""Every fault for real: processes killed, disks full, losses bad, files damaged. `python -m tools.faults --help`."""
