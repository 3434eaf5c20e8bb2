# SPDX-License-Identifier: BSD-2-Clause
# What the tests of the tools share. $tool is the program under test.

# Pipes and switches that programs share are each test's own, in ./run.
export NM_RUNTIME_DIR=$BATS_TEST_TMPDIR/run

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

# ---- programs in the background

jobs_of_test=()

# in_background NAME COMMAND...: stdout in NAME.out, stderr in NAME.err, $pid is the command's own. SIGINT is not ignored, as bash would have
# it, nor SIGHUP; bounded by itself, since a signal to `timeout` would not be one to the program.
in_background() {
    local name=$1
    shift
    python3 -c 'import os, signal, sys
for s in signal.SIGINT, signal.SIGHUP: signal.signal(s, signal.SIG_DFL)
signal.alarm(60)
os.execvp(sys.argv[1], sys.argv[1:])' \
        "$@" >$name.out 2>$name.err 3>&- &
    pid=$!
    jobs_of_test+=($pid)
}
# What `timeout` runs is killed first: it could not hand on a SIGKILL.
end_jobs() {
    local pid
    for pid in "${jobs_of_test[@]}"; do kill -9 $(pgrep -P "$pid") "$pid" 2>/dev/null || true; done
    for pid in "${jobs_of_test[@]}"; do wait "$pid" 2>/dev/null || true; done
}
teardown() { end_jobs; }

# soon COMMAND...: holds within twenty seconds. What it says is shown if it does not.
soon() {
    local end=$((SECONDS + 20))
    while [ $SECONDS -lt $end ]; do
        "$@" >"$BATS_TEST_TMPDIR/soon" 2>&1 && return 0
        sleep 0.02
    done
    echo "not so within 20 s: $*"
    cat "$BATS_TEST_TMPDIR/soon"
    tail -n 3 ./*.err 2>/dev/null
    return 1
}

# ---- programs that meet

list() { timeout 10 "$NM_BIN/valectl" --json -l; }
# hosts [NAME]: their process ids.
hosts() {
    list | python3 -c 'import json, sys
for s in json.load(sys.stdin)["switches"]:
    if len(sys.argv) < 2 or s["name"] == sys.argv[1]: print(s["pid"])' "$@"
}
kill_hosts() {
    local pid
    for pid in $(hosts); do kill -9 "$pid" 2>/dev/null || true; done
}
# there EXPRESSION: it holds for `ports`, what valectl says of each port by its name, and `switches`.
there() {
    list | python3 -c 'import json, sys
switches = {s["name"]: s for s in json.load(sys.stdin)["switches"]}
ports = {p["name"]: p for s in switches.values() for p in s["ports"]}
assert eval(sys.argv[1]), (sys.argv[1], switches)' "$1"
}
nothing_left() { [ -z "$(ls -A run 2>/dev/null)" ]; }
# packets FILE: what its last line, an object, says.
packets() { python3 -c 'import json, sys; print([json.loads(l) for l in open(sys.argv[1])][-1]["packets"])' "$1"; }

# A user who may do nothing, with a directory of that user's, $nobody, which end_nobody removes in teardown.
needs_nobody() {
    [ "$(id -u)" -eq 0 ] || skip "not root: cannot become another user"
    setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$NM_BIN" || skip "$NM_BIN is out of another user's reach"
    nobody=$(mktemp -d /tmp/nm-test-XXXXXX)
    chown 65534 "$nobody"
}
# as_nobody COMMAND...
as_nobody() { timeout 20 setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_RUNTIME_DIR NM_RUNTIME_DIR="$nobody/nm" "$@"; }
end_nobody() { [ -z "$nobody" ] || rm -rf "$nobody"; }

# ---- namespaces, whose names begin with $ns

# namespaces PREFIX NAME...: makes them, in setup_file or in a test. False: there can be none.
namespaces() {
    export ns=$1$$ namespaces_of_test=${*:2}
    [ "$(id -u)" -eq 0 ] || return 1
    local i
    for i in $namespaces_of_test; do
        ip netns add "$ns$i" || return 1
        ip -n "$ns$i" link set lo up
    done
}
# At the end of setup_file.
namespaces_ready() { export NMCLI_READY=1; }
needs_namespaces() {
    [ "$(id -u)" -eq 0 ] || skip "not root: no namespaces"
    [ -n "$NMCLI_READY" ] || skip "cannot make network namespaces, or what is to be in them, here"
}
# In teardown_file, or in teardown.
end_namespaces() {
    local i
    for i in $namespaces_of_test; do
        [ -e "/run/netns/$ns$i" ] || continue
        ip netns pids "$ns$i" | xargs -r kill -9
        ip netns del "$ns$i"
    done
}
in_ns() {
    local n=$1
    shift
    ip netns exec "$ns$n" "$@"
}
# starts NAMESPACE COUNT LINE ARGUMENTS...: the tool there, in the background, with stdout in ./out and stderr in ./err; returns when LINE, a
# regular expression, stands COUNT times in ./err. $pid is the tool's own, $job is what to wait for.
starts() {
    local n=$1 count=$2 line=$3 i
    shift 3
    ip netns exec "$ns$n" timeout -s INT 60 "$tool" "$@" >out 2>err 3>&- &
    job=$!
    for i in $(seq 100); do
        [ "$(grep -c "$line" err)" -ge "$count" ] && break
        sleep 0.05
    done
    pid=$(pgrep -P $job -x "${tool##*/}") || { cat err; return 1; }
}
# stops [SIGNAL]: its status is the tool's.
stops() {
    kill -${1:-INT} $pid
    pid=
    wait $job
}
# transfer TO FROM ADDRESS [OPTION]: TCP between two namespaces for a second; bytes that arrived on stdout.
transfer() {
    in_ns "$1" timeout 20 iperf3 -s -1 >/dev/null 2>&1 3>&- &
    local server=$! i
    for i in $(seq 100); do
        in_ns "$1" ss -Hltn | grep -q :5201 && break
        sleep 0.05
    done
    in_ns "$2" timeout 20 iperf3 -c "$3" -t 1 -J "${@:4}" >iperf.json
    wait $server
    python3 -c 'import json; d = json.load(open("iperf.json")); print(int(d["end"]["sum_received"]["bytes"]))'
}
