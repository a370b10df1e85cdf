"""Read and limit the memory of processes, on Linux."""

import resource
from pathlib import Path

import psutil


def peak_kib(pid: int) -> int:
    """Return the most memory that a process has had resident since it started or was reset."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def reset_peak(pid: int) -> None:
    """Make the present memory of a process its peak."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def limit_memory(pid: int, more: int) -> None:
    """Let a process allocate at most this many more bytes of address space."""
    limit = psutil.Process(pid).memory_info().vms + more
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
