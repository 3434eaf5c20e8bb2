#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# How every tool ends: told to by a signal, with nobody to read what it says, with a full disk, and without descriptors.

load tool

setup() { cd "$BATS_TEST_TMPDIR"; }

# Each in a state in which it goes on without end, and says something every 50 ms: NAME ARGUMENTS...
running() {
    grep -v '^$' <<'END'
pkt-gen -i null:x -f tx -R 1000 -T 50
bridge -i netmap:a{1 -i netmap:b{1 --feed netmap:a}1 --drain netmap:b}1 -T 50
lb -i netmap:in{1 -p out:1 --feed netmap:in}1 -T 50
switch -i null:x -i null:y -T 50
nm-dump -i netmap:d{1/t --feed netmap:d{1 --drain netmap:d}1 -w nm-dump.file --report 50
nmreplay --record nmreplay.file -i netmap:r{1 --peer netmap:r}1 --report 50
ptnet-host --own-switches -s vm.sock -i vale1:a -i null:y -T 50
ptnet-if -i netmap:p{1 -n nmend0 -T 50
nmctl top -T 50 -i lo
valectl -T 50
END
}
# each FUNCTION: FUNCTION NAME ARGUMENTS... for all that are built here and can run.
each() {
    local line words
    while read -r line; do
        read -ra words <<<"$line"
        [ -x "$NM_BIN/${words[0]}" ] || continue  # left out of this build, aloud
        if [ "${words[0]}" = ptnet-if ] && { [ "$(id -u)" -ne 0 ] || [ ! -c /dev/net/tun ]; }; then continue; fi
        "$1" "${words[@]}" </dev/null || { echo "$line"; return 1; }
    done < <(running)
}
# In a network namespace of its own: one tool makes an interface.
alone() { if [ "$1" = ptnet-if ]; then unshare -n "$NM_BIN/$@"; else "$NM_BIN/$@"; fi; }

@test "a terminal that goes, SIGINT and SIGTERM: the sums, whole files, and status 0" {
    ends_by_signals() {
        local name=$1 signal signals=HUP
        [[ $name != ptnet-* ]] || signals="INT TERM HUP"  # of the others their own tests try these two
        for signal in $signals; do
            rm -f $name.file
            in_background $name bash -c 'if [ "${1##*/}" = ptnet-if ]; then exec unshare -n "$@"; fi; exec "$@"' sh "$NM_BIN/$name" "${@:2}"
            soon test -s $name.$([ $name = nmctl ] && echo out || echo err)
            sleep 0.2  # so that it has said something
            kill -$signal $pid
            wait $pid || { echo "SIG$signal: $?"; cat $name.out $name.err; return 1; }
        done
    }
    each ends_by_signals
    grep -q "conserved" bridge.out
    grep -q "^Sent" pkt-gen.out
    grep -q " packets" nm-dump.out
    blocks nm-dump.file
    [ "$(od -An -tx4 -N4 nmreplay.file | tr -d ' ')" = a1b23c4d ]
    [ ! -e vm.sock ]
}
# blocks FILE: it is pcapng, block by block to its end, and the last one has the sums.
blocks() {
    python3 - "$1" <<'PY'
import struct, sys
data, at, last = open(sys.argv[1], "rb").read(), 0, None
while at < len(data):
    last, length = struct.unpack_from("<II", data, at)
    assert length >= 12 and struct.unpack_from("<I", data, at + length - 4) == (length,), at
    at += length
assert at == len(data) and last == 5, last
PY
}

@test "under nohup a terminal that goes is nothing to it" {
    goes_on() {
        in_background $1 sh -c 'trap "" HUP; exec "$@"' sh "$NM_BIN/$@"
        soon test -s $1.err
        kill -HUP $pid
        sleep 0.3
        kill -0 $pid
        kill -INT $pid
        wait $pid
    }
    goes_on pkt-gen -i null:x -f tx -R 1000 -T 50
    goes_on switch -i null:x -i null:y -T 50
}

@test "nobody reads stdout, or stderr either" {
    export -f alone
    as_objects() {
        local status
        { timeout 20 bash -c 'alone "$@" --json 2>err; echo $? >status' sh "$@" | true; } || true
        status=$(cat status)
        [ "$status" -eq 1 ] && grep -q "cannot write to stdout: Broken pipe" err || { echo "status $status"; cat err; return 1; }
        { timeout 20 bash -c 'alone "$@" --json; echo $? >status' sh "$@" 2>&1 | true; } || true
        status=$(cat status)
        [ "$status" -eq 1 ] || { echo "both closed: status $status"; return 1; }
    }
    each as_objects
}

@test "a disk that is full" {
    full() {
        local status=0
        timeout 20 bash -c 'alone "$@" --json >/dev/full 2>err' sh "$@" || status=$?
        [ "$status" -eq 1 ] && grep -q "cannot write to stdout: No space left" err || { echo "status $status"; cat err; return 1; }
    }
    export -f alone
    each full
}

@test "without stdin it is all the same; without any descriptor nothing is written where it does not belong" {
    # What ends by itself.
    without() {
        rm -f $1.file
        case $1 in
            nmctl | valectl) set -- "$@" --count 2 ;;
            nm-dump) set -- "$@" --for 0.2 ;;
            *) set -- "$@" --time 0.2 ;;
        esac
        run timeout 20 bash -c 'alone "$@" <&-' sh "$@"
        [ "$status" -eq 0 ] || { echo "without stdin: $status: $output"; return 1; }
        rm -f $1.file
        status=0
        timeout 20 bash -c 'alone "$@" --json <&- >&- 2>&-' sh "$@" || status=$?
        [ "$status" -eq 1 ] || { echo "without any: $status"; return 1; }
    }
    export -f alone
    each without
    ! grep -qa "main_thread\|conserved\|type" nm-dump.file nmreplay.file
}

@test "nmctl metrics --listen ends at SIGHUP, too" {
    in_background http "$NM_BIN/nmctl" metrics --listen 0
    soon grep -q /metrics http.err
    kill -HUP $pid
    wait $pid
}

@test "a histogram is written although stdout has gone" {
    run timeout 20 bash -c '"$0" -i "netmap:p{1" --peer "netmap:p}1" -f ping -n 100 --hgrm times.hgrm >/dev/full 2>err' "$NM_BIN/pkt-gen"
    ends 1
    grep -q "No space left" err
    grep -q "^#" times.hgrm
    go_on_full() { timeout 20 "$NM_BIN/pkt-gen" -i "netmap:p{1" --peer "netmap:p}1" -f ping -n 100 --hgrm /dev/full; }
    run go_on_full
    ends 1 "--hgrm: cannot write"
}

@test "a terminal of one column, and of one row" {
    python3 - "$NM_BIN/nmctl" <<'PY'
import fcntl, os, pty, select, struct, sys, termios, time
for rows, columns in ((1, 1), (2, 1), (24, 1), (1, 80), (1000, 1000)):
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.environ["TERM"] = "xterm"
        os.execv(sys.argv[1], [sys.argv[1], "top", "-T", "20", "-i", "lo"])
    seen, end = b"", time.time() + 20
    while seen.count(b"\x1b[H") < 3 and time.time() < end:
        if select.select([fd], [], [], 0.1)[0]: seen += os.read(fd, 65536)
    # Of each screen: no more lines than there are, none longer.
    for screen in seen.split(b"\x1b[H")[1:-1]:
        lines = screen.replace(b"\x1b[K", b"").replace(b"\x1b[J", b"").replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"").split(b"\n")
        assert len(lines) <= rows and all(len(l.rstrip(b"\r")) <= columns for l in lines), (rows, columns, lines)
    assert seen.count(b"\x1b[H") >= 3, (rows, columns, seen)
    os.write(fd, b"q")
    while True:
        try:
            if not os.read(fd, 65536): break
        except OSError: break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, (rows, columns)
PY
}
