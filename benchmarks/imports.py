"""What a DAG parse pays for: seconds of CPU and modules of an import in a fresh interpreter, the median of some.

`python -m benchmarks.imports [--rounds N]`
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

CASES = {
    "airflow.sdk": "import airflow.sdk",
    "+ orbit_airflow.operators.transfer": "import airflow.sdk, orbit_airflow.operators.transfer",
    "+ amazon's LocalFilesystemToS3Operator": (
        "import airflow.sdk, airflow.providers.amazon.aws.transfers.local_to_s3"
    ),
    "orbit_airflow.engine alone": "import orbit_airflow.engine",
}
_PROBE = """
{code}
import sys, time
print(time.process_time(), len(sys.modules), any(name in sys.modules for name in ("boto3", "botocore")))
"""


def measure(code: str, rounds: int) -> tuple[float, int, bool]:
    """Median CPU seconds of the whole interpreter, the number of modules, and whether boto3 was among them."""
    seconds, modules, has_boto = [], 0, False
    for _ in range(rounds + 1):
        out = subprocess.run(
            [sys.executable, "-c", _PROBE.format(code=code)], capture_output=True, text=True, check=True
        ).stdout.split()
        seconds.append(float(out[-3]))
        modules, has_boto = int(out[-2]), out[-1] == "True"
    # The first one only warmed the byte code and the file cache.
    return statistics.median(seconds[1:]), modules, has_boto


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("| import | CPU s | modules | boto3 |\n|---|---|---|---|")
    for name, code in CASES.items():
        seconds, modules, has_boto = measure(code, rounds)
        print(f"| {name} | {seconds:.2f} | {modules} | {'yes' if has_boto else 'no'} |")


if __name__ == "__main__":
    main()
