"""Code that the lab's tests share: it checks expectations and runs cases by name."""

import os
import sys

import lab as netlab

SKIPPED = 77  # exit status: a lab is not permitted on this machine


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def need_lab():
    """Ends the program with SKIPPED if a lab is not permitted on this machine."""
    if problem := netlab.why_not():
        print(f"skipped: {problem}")
        sys.exit(SKIPPED)
    os.environ["NETLAB_FORWARDER"] = netlab.forwarder()


def run_cases(cases, names, run):
    """Calls `run(name, case)` for the named cases of a dict, or for all. Ends the program at the first failed expectation."""
    need_lab()
    for name in names or cases:
        try:
            run(name, cases[name])
        except AssertionError as error:
            sys.exit(f"{name}: {error}")
