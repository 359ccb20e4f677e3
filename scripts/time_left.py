"""Run Snakemake and say after every "7 of 41 steps" that it prints how long the rest will take at that pace."""

import re
import signal
import subprocess
import sys
import time


def time_left(line: str, elapsed: float) -> str:
    """The line, with minutes after a count of steps; elapsed: seconds since the start."""
    steps = re.search(r"(\d+) of (\d+) steps", line)
    if not steps or steps[1] == steps[2]:
        return line
    minutes = elapsed / int(steps[1]) * (int(steps[2]) - int(steps[1])) / 60
    return f"{line.rstrip()}, about {max(1, round(minutes))} min left at this pace\n"


def main(command: list[str]) -> int:
    """Run the command, its output line by line; returns its exit code."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C reaches the command too, which ends in its own way
        for line in process.stdout:
            print(time_left(line, time.monotonic() - began), end="", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
