"""`python -m tests.mutation`: exit status 0 if enough is caught and every survivor is explained."""

import argparse
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.mutation import reach
from tests.mutation.areas import ROOT, Tests, Trial, existing, group_of, trials
from tests.mutation.results import Results
from tests.mutation.running import Verdict, end, tried
from tests.mutation.trial import (
    LOG,
    Collected,
    end_with,
    fork,
    place_of,
    run_collected,
    start_fresh,
    warm_up,
)

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
    for tests in dict.fromkeys(each.tests for each in left):
        of_area = [each for each in left if each.tests == tests]
        if not _try_area(tests, of_area, results, options):
            return 2
    return _compare(wanted, results)


def _try_area(
    tests: Tests, left: Sequence[Trial], results: Results, options: argparse.Namespace
) -> bool:
    """Try mutants that share their tests. Returns False if these tests fail without a mutant."""
    found = _reach(tests, left, results)
    if found is None:
        return False
    quick, fresh = _parted(left, found)
    print(f"{len(quick)} in functions, {len(fresh)} elsewhere: {tests[0][0]} …", flush=True)

    def go(collected: Collected) -> None:
        _try(quick, collected.start, results, options)

    parent = os.getpid()
    process = os.fork()
    if not process:
        status = 1
        try:
            end_with(parent)
            status = run_collected(tests, found.tests, go)
        finally:
            sys.stdout.flush()
            os._exit(status)
    try:
        _, status = os.waitpid(process, 0)
    except KeyboardInterrupt:
        os.waitpid(process, 0)  # it ends its own trials first
        raise
    if status:
        return False
    _try(fresh, start_fresh, results, options)
    results.read()
    return True


def _try(
    left: Sequence[Trial],
    start: Callable[[Trial, Path], int],
    results: Results,
    options: argparse.Namespace,
) -> None:
    for trial, outcome in tried(left, options.jobs, start):
        results.add(trial, outcome)
        if options.verbose or outcome.verdict is Verdict.SURVIVED:
            by = f" by {outcome.by}" if outcome.by else ""
            print(f"{outcome.verdict} {trial.mutant.path} {trial.mutant.name}{by}", flush=True)


def _reach(tests: Tests, left: Sequence[Trial], results: Results) -> reach.Reach | None:
    """Which tests reach which function: measured now, or earlier on the same files."""
    paths = sorted({each.mutant.path for each in left})
    kept = results.beside(repr((tests, paths)))
    if kept.exists():
        return reach.read(kept)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = folder / "found"
        process = fork(folder, lambda: reach.measure(tests, paths, found))
        try:
            _, status = os.waitpid(process, 0)
        finally:
            end(process)
        if status:
            print(f"the tests fail without a mutant: mend them first\n{(folder / LOG).read_text()}")
            return None
        shutil.copy(found, kept)
        return reach.read(kept)


def _parted(left: Sequence[Trial], found: reach.Reach) -> tuple[list[Trial], list[Trial]]:
    """The mutants whose defect can be put in after the import, and the others."""
    paths = {each.mutant.path for each in left}
    functions = {
        f"{path} {name}" for path in paths for name in reach.replaceable((ROOT / path).read_text())
    } - found.outside
    quick = [each for each in left if place_of(each.mutant) in functions]
    return quick, [each for each in left if place_of(each.mutant) not in functions]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__)
    parser.add_argument("only", nargs="*", help="paths such as midas/charge.py; default: all")
    parser.add_argument("--draw", type=int, default=300, help="of flows and commits (300)")
    parser.add_argument("--seed", type=int, default=6011)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="try also what is known")
    parser.add_argument("--verbose", action="store_true", help="show those that are caught, too")
    return parser.parse_args()


def _compare(wanted: Sequence[Trial], results: Results) -> int:
    explained = {
        (path, name)
        for path, names in tomllib.loads(SURVIVORS.read_text()).items()
        for name in names
    }
    found = {(each.mutant.path, each.mutant.name): results.of(each) for each in wanted}
    caught = {
        name for name, outcome in found.items() if outcome and outcome.verdict is Verdict.CAUGHT
    }
    survived = found.keys() - caught
    print(f"\n{'':36}mutants  caught         explained  left")
    enough = True
    for group in dict.fromkeys(group_of(path) for path, _ in found):
        here = {name for name in found if group_of(name[0]) == group}
        share = len(here & caught) / len(here)
        enough = enough and share >= ENOUGH
        named, left = here & survived & explained, here & survived - explained
        print(
            f"{group:36}{len(here):7}{len(here & caught):8}{share:8.1%}{len(named):10}{len(left):6}"
        )
    problems = {
        "survived, and not explained": survived - explained,
        "caught by now, take it out": caught & explained,
        "no mutant any more, take it out": explained - existing(path for path, _ in explained),
    }
    for what, names in problems.items():
        for path, name in sorted(names):
            print(f"{SURVIVORS.name}: {what}: {path}  {name}")
    return 0 if enough and not any(problems.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
