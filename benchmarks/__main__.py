"""Run all benchmarks in turn: `python -m benchmarks`, or some of them: `python -m benchmarks feature_file`."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
KNOWN = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main() -> int:
    wanted = sys.argv[1:] or KNOWN
    unknown = [name for name in wanted if name not in KNOWN]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(KNOWN)}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent).returncode:
            failed.append(name)
    if failed:
        print(f"did not end well: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
