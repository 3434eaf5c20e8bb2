#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs SPIN on csb.pml: as it is, where every state is to be looked at and none to be wrong, and with each of its
mutations, of which every one is to be found out.

check.py [MODEL.pml]     exit 0 when all is as it should be, 1 when not, 77 without spin or a C compiler
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WELL = [[], ["MEMBARRIER"]]
MUTATIONS = [
    ["NO_FENCE_KICK"], ["NO_FENCE_ARM"], ["NO_SECOND_LOOK"], ["NO_BELL"], ["HEAD_FIRST"], ["NO_ROOM_KEPT"],
    ["MEMBARRIER", "PRIVATE_BARRIER"], ["MEMBARRIER", "NO_FENCE_ARM"], ["MEMBARRIER", "NO_SECOND_LOOK"],
]
MEGABYTES = 1500
SECONDS = 150  # ten times what it takes
DEPTH = 2_000_000


def check(model, cc, names):
    """What SPIN found: (complete, the violation or None, states)."""
    with tempfile.TemporaryDirectory() as folder:
        defines = ["-D" + n for n in names]
        subprocess.run(["spin", *defines, "-a", str(model)], cwd=folder, check=True, capture_output=True, timeout=SECONDS)
        # Exact, and in half the memory: COLLAPSE stores parts of states once.
        # A mutation is found out within thousands of states: compiling is what takes long there.
        subprocess.run([cc, "-O2" if names in WELL else "-O0", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEGABYTES}", "-o", "pan", "pan.c"],
                       cwd=folder, check=True, timeout=SECONDS)
        ran = subprocess.run(["./pan", f"-m{DEPTH}", "-w24" if names in WELL else "-w18"], cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    violation = re.search(r"^pan:\d+: (.*)", ran.stdout, re.M)
    states = re.search(r"(\S+) states, stored", ran.stdout)
    complete = "Search not completed" not in ran.stdout and "max search depth" not in ran.stdout and states is not None
    return complete, violation.group(1) if violation else None, states.group(1) if states else "0"


def main():
    model = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("csb.pml")).resolve()
    cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang-14")
    if shutil.which("spin") is None or cc is None:
        print("skipped: it needs spin and a C compiler (scripts/install-deps test)")
        return 77
    wrong = 0
    for names in WELL + MUTATIONS:
        complete, violation, states = check(model, cc, names)
        if names in WELL:
            ok = complete and violation is None
            said = "every state is well" if ok else violation or "SEARCH NOT COMPLETE"
        else:
            ok = violation is not None
            said = "found out: " + violation if ok else "NOT FOUND OUT"
        wrong += not ok
        print(f"{' '.join(names) or 'as it is':<28} {states:>10} states  {said}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
