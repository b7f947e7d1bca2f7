"""`python benchmarks [NAME...]`: our times beside those of peers, as ratios, in one run."""

from __future__ import annotations

import json
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from measure import Contest, Result, hold

RESULTS = Path(__file__).parent / "results"

PACKAGES = (
    "mpo-games",
    "numpy",
    "scipy",
    "numba",
    "open_spiel",
    "nashpy",
    "quantecon",
    "pygambit",
    "liteefg",
)


def benchmarks() -> Mapping[str, Callable[[], Iterable[Contest]]]:
    """The benchmarks by name.

    They run on one thread: small products are fastest there, and ratios of entrants with different
    numbers of threads would mean nothing.
    """
    # NumPy reads these when it is imported, so the modules that import it come after.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    import floor
    import oracles
    import steps
    import trees

    return {
        "floor": floor.contests,
        "steps": steps.contests,
        "nash": oracles.nash,
        "qre": oracles.qre,
        "trees": trees.contests,
    }


def main(names: list[str]) -> int:
    """Run the named benchmarks (all by default); returns the exit code."""
    known = benchmarks()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"No benchmark {unknown[0]!r}: there are {', '.join(known)}.", file=sys.stderr)
        return 2
    # Peers' deprecation warnings would fill the table.
    warnings.simplefilter("ignore")
    print("A ratio is the peer's time over ours in the same round, median: above 1 we are ahead.")
    for name in names or known:
        print(f"\n# {name}")
        results = [_shown(hold(contest)) for contest in known[name]()]
        _write(name, [result for group in results for result in group])
    return 0


def _shown(results: list[Result]) -> list[Result]:
    print(f"\n{results[0].contest}, per {results[0].unit}")
    for r in results:
        if r.seconds is None:
            print(f"  {r.entrant:36s} {r.note}")
            continue
        error = "" if r.error is None else f"  gap {r.error:.0e}"
        ratio = "" if r is results[0] else f"{_figure(r.ratio)} x"
        print(f"  {r.entrant:36s} {_time(r.seconds):>10s} {ratio:>10s}{error}".rstrip())
        for verdict in filter(None, r.note.split("; ")):
            print(f"    {verdict}")
    sys.stdout.flush()
    return results


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.0f}" if number >= 100 else f"{number:.2g}"


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1.0:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _write(name: str, results: list[Result]) -> None:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    machine = {
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
    }
    content = {"versions": versions, "machine": machine, "results": [asdict(r) for r in results]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
