#!/usr/bin/env python3
"""Checks commit messages: `check_commits.py [RANGE]`, by default the commits that are not in origin/main (or main) yet.

A subject is `subsystem: imperative verb ...`, at most 72 characters, with one change and no full stop. A body that explains the reason is
required unless the change is documentation or formatting alone. CONTRIBUTING.md has examples. Exit status 0 if every message passes.

    tools/dev/check_commits.py HEAD~5..
    tools/dev/check_commits.py --message .git/COMMIT_EDITMSG      # as a commit-msg hook
"""

import argparse
import pathlib
import re
import subprocess
import sys

MOST_CHARACTERS = 72
SUBJECT = re.compile(r"^(?P<subsystem>[\w./+, -]+?): (?P<words>.+)$")
# A subject that begins with one of these describes a state instead of a change.
NOT_VERBS = {
    "a", "all", "an", "and", "as", "at", "each", "for", "how", "in", "it", "its", "no", "of", "on", "one", "so", "that", "the", "these", "this",
    "those", "to", "what", "when", "where", "which", "while", "who", "whose", "why", "with",
}  # fmt: skip
NEED_NO_BODY = {"docs", "readme", "format", "changelog"}


def problems(message):
    """The rules that a commit message breaks, as sentences."""
    lines = [line for line in message.rstrip().splitlines() if not line.startswith("#")]
    if not lines:
        yield "the message is empty"
        return
    subject = lines[0]
    if subject.startswith(("Merge ", "Revert ", "fixup! ", "squash! ")):
        return
    if len(subject) > MOST_CHARACTERS:
        yield f"the subject has {len(subject)} characters; the limit is {MOST_CHARACTERS}"
    if ";" in subject:
        yield "the subject has a semicolon: make a separate commit for each change"
    if subject.endswith("."):
        yield "the subject ends with a full stop"
    match = SUBJECT.match(subject)
    if not match:
        yield "the subject is not of the form `subsystem: imperative verb ...`"
        return
    first = match["words"].split()[0].lower().rstrip(",")
    if first in NOT_VERBS or first.endswith(("ing", "ed")) and first not in {"bring", "embed", "feed", "need", "ping", "ring", "shed", "speed"}:
        yield f"the subject begins with {first!r}: begin with an imperative verb, as in `pacer: count retransmissions`"
    if len(lines) > 1 and lines[1]:
        yield "the second line is not empty"
    body = [line for line in lines[2:] if line.strip() and not re.match(r"^[\w-]+: ", line)]
    if not body and match["subsystem"].split(",")[0].strip() not in NEED_NO_BODY:
        yield "there is no body: give the reason and the measurement"


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def default_range():
    for base in ("origin/main", "main"):
        if subprocess.run(["git", "rev-parse", "--verify", "--quiet", base], capture_output=True).returncode == 0:
            return f"{base}..HEAD"
    return "HEAD"


def self_test():
    good = "pacer: count retransmissions as evidence of a full path\n\nThe path is full if data had to be sent again.\n"
    bad = {
        "pacer: what is lost shows that a path is full\n\nreason\n": "imperative",
        "a change\n\nreason\n": "form",
        "peer: allocate early frames from the pool; drop the list\n\nreason\n": "semicolon",
        "peer: allocate early frames from the pool.\n\nreason\n": "full stop",
        "peer: allocate early frames from the pool\n": "body",
        "peer: " + "allocate " * 10 + "\n\nreason\n": "characters",
        "peer: allocate early frames\nreason\n": "second line",
    }
    assert not list(problems(good)), list(problems(good))
    assert not list(problems("docs: describe ports\n"))
    for message, word in bad.items():
        found = list(problems(message))
        assert any(word in problem for problem in found), (message, found)
    print("ok")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("range", nargs="?", help="commits in the syntax of git log (default: those that are not in origin/main or main)")
    parser.add_argument("--message", type=pathlib.Path, help="check the message in this file instead")
    parser.add_argument("--self-test", action="store_true", help="check this script")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if options.message:
        messages = {str(options.message): options.message.read_text()}
    else:
        commits = git("rev-list", "--no-merges", options.range or default_range()).split()
        messages = {commit[:10]: git("log", "-1", "--format=%B", commit) for commit in commits}
    bad = 0
    for name, message in messages.items():
        for problem in problems(message):
            subject = (message.splitlines() or [""])[0]
            print(f"{name} {subject!r}: {problem}")
            bad += 1
    print(f"{len(messages)} commit messages, {bad} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
