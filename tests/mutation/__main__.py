"""`python -m tests.mutation`: exit status 0 if enough is caught and every survivor is explained."""

import argparse
import os
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.mutation.areas import Trial, controls, trials
from tests.mutation.results import Results
from tests.mutation.trial import WALL_S, Outcome, Verdict, outcome, start, warm_up

ENOUGH = 0.95
SURVIVORS = Path(__file__).parent / "survivors.toml"


def main() -> int:
    """Try what has not been tried yet, then compare."""
    options = _options()
    wanted = trials(options.draw, options.seed, tuple(options.only))
    results = Results()
    if options.again:
        results.forget(wanted)
    left = [each for each in wanted if results.of(each) is None]
    print(f"{len(wanted)} mutants, {len(wanted) - len(left)} known, {len(left)} to try", flush=True)
    if left:
        warm_up()
        for _, said in _tried(controls(left), options.jobs):
            if said.verdict is Verdict.CAUGHT:
                print(f"{said.by} fails without a mutant: mend it first")
                return 2
        for number, (trial, said) in enumerate(_tried(left, options.jobs), 1):
            results.add(trial, said)
            _show(number, len(left), trial, said, options.verbose)
    return _compare(wanted, results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__)
    parser.add_argument("only", nargs="*", help="paths such as midas/charge.py; default: all")
    parser.add_argument("--draw", type=int, default=300, help="of flows and commits (300)")
    parser.add_argument("--seed", type=int, default=6011)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="try also what is known")
    parser.add_argument("--verbose", action="store_true", help="show those that are caught, too")
    return parser.parse_args()


def _tried(left: Sequence[Trial], jobs: int) -> Iterator[tuple[Trial, Outcome]]:
    """The outcomes as they come, so many trials at once."""
    waiting = list(reversed(left))
    running: dict[int, tuple[Trial, Path, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    trial = waiting.pop()
                    report = Path(folder) / f"{len(waiting)}.txt"
                    running[start(trial, report)] = (trial, report, time.monotonic())
                process, status = _next_end(running)
                trial, report, began = running.pop(process)
                _end(process)
                yield trial, outcome(status, report, began)
        finally:
            for process in running:
                _end(process)


def _next_end(running: dict[int, tuple[Trial, Path, float]]) -> tuple[int, int]:
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process in running:
            return process, status
        for each, (_, _, began) in running.items():
            if time.monotonic() - began > WALL_S:
                _end(each)
        time.sleep(0.02)


def _end(process: int) -> None:
    """The trial with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def _show(number: int, of: int, trial: Trial, said: Outcome, verbose: bool) -> None:
    if verbose or said.verdict is Verdict.SURVIVED:
        by = f" by {said.by}" if said.by else ""
        print(f"[{number}/{of}] {said.verdict} {trial.mutant.path} {trial.mutant.name}{by}")
    elif number % 50 == 0:
        print(f"[{number}/{of}]")
    sys.stdout.flush()


def _compare(wanted: Sequence[Trial], results: Results) -> int:
    explained = {
        (path, name)
        for path, names in tomllib.loads(SURVIVORS.read_text()).items()
        for name in names
    }
    survived: set[tuple[str, str]] = set()
    caught: set[tuple[str, str]] = set()
    for each in wanted:
        said = results.of(each)
        assert said is not None
        group = caught if said.verdict is Verdict.CAUGHT else survived
        group.add((each.mutant.path, each.mutant.name))
    share = len(caught) / max(1, len(wanted))
    print(f"\n{len(caught)} of {len(wanted)} caught: {share:.1%}")
    for path, name in sorted(survived - explained):
        print(f"survived, and not explained in {SURVIVORS.name}: {path}  {name}")
    for path, name in sorted(caught & explained):
        print(f"caught by now, take it out of {SURVIVORS.name}: {path}  {name}")
    return 0 if share >= ENOUGH and survived <= explained and not caught & explained else 1


if __name__ == "__main__":
    sys.exit(main())
