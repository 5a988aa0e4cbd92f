"""What the benchmarks print: the machine, and tables in Markdown."""

import datetime
import os
import platform
from pathlib import Path


def machine() -> str:
    """Processor, cores, and the date: no figure is worth anything without them."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, {datetime.date.today()}."


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table, aligned, with an empty line after it."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows)]
    for row in (header, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
    print()


def peak_kilobytes() -> int:
    """The most memory that this process has taken so far."""
    # Not getrusage's ru_maxrss, in which a new process inherits its parent's.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM: peak memory is measured on Linux only.")
