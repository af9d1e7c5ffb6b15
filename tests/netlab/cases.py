"""What the lab's tests have in common: expectations, and the running of cases by name."""

import os
import sys

import lab as netlab

SKIPPED = 77  # exit status: no lab can be made here


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def need_lab():
    """Ends the program where no lab can be made."""
    if problem := netlab.why_not():
        print(f"skipped: {problem}")
        sys.exit(SKIPPED)
    os.environ["NETLAB_FORWARDER"] = netlab.forwarder()


def run_cases(cases, names, run):
    """`run(name, case)` for the named ones of a dict, or all; ends the program at the first whose expectations fail."""
    need_lab()
    for name in names or cases:
        try:
            run(name, cases[name])
        except AssertionError as error:
            sys.exit(f"{name}: {error}")
