# SPDX-License-Identifier: BSD-2-Clause
# What the tests of the tools share. $tool is the program under test.

# Pipes and switches that programs share are each test's own.
export NM_RUNTIME_DIR=$BATS_TEST_TMPDIR/nm

# go ARGUMENTS...: the tool, bounded; stdout and stderr both in $output.
go() { run timeout 20 "$tool" "$@"; }

says() {
    if [[ $output != *"$1"* ]]; then
        echo "wanted: $1"
        echo "got ($status): $output"
        return 1
    fi
}

# ends STATUS [SENTENCE]
ends() {
    if [ "$status" -ne "$1" ]; then
        echo "wanted status $1, got $status: $output"
        return 1
    fi
    [ $# -eq 1 ] || says "$2"
}

# usage SENTENCE ARGUMENTS...: exit status 2, the sentence, and where help is.
usage() {
    local sentence=$1
    shift
    go "$@"
    ends 2 "$sentence" && says "--help"
}

# json FILE EXPRESSION: the Python expression holds for d, the last line of FILE.
json() {
    python3 - "$1" "$2" <<'PY'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
d = lines[-1]
assert eval(sys.argv[2]), (sys.argv[2], d)
PY
}

# interrupted SIGNAL SECONDS COMMAND...: runs it with stdout in ./out and stderr in ./err, and signals it after a while.
# (bash would give a background command SIGINT ignored.)
interrupted() {
    python3 - "$@" <<'PY'
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
p = subprocess.Popen(sys.argv[3:], stdout=open("out", "w"), stderr=open("err", "w"))
time.sleep(float(sys.argv[2]))
p.send_signal(getattr(signal, "SIG" + sys.argv[1]))
sys.exit(p.wait(timeout=5))
PY
}
