#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# nmctl top and valectl -T: rates from counters' differences, as lines, rows, objects, and on a screen (tmux).

load tool

setup() {
    tool=$NM_BIN/nmctl
    cd "$BATS_TEST_TMPDIR"
    tmux_of_test=
}
teardown() {
    end_jobs
    end_nobody
    [ -z "$tmux_of_test" ] || tmux -S ./tmux kill-server 2>/dev/null || true
}
seen() { "$NM_BIN/valectl" -l 2>/dev/null | grep -q "$1"; } 2>/dev/null
# 1000 frames a second from vale1:b to vale1:a.
traffic() {
    in_background rx timeout 60 "$NM_BIN/pkt-gen" -i vale1:a -f rx
    soon seen vale1:a
    in_background tx timeout 60 "$NM_BIN/pkt-gen" -i vale1:b -f tx -R 1000
    soon seen vale1:b
}

@test "bad command lines" {
    usage "stands alone" top vale1
    usage "wants a value" top -T
    usage "out of range" top -T 0
    usage "out of range" top -T 99999999999
    usage "not a number" top -T x
    usage "wants a value" top --count
    usage "out of range" top --count 0
    usage "too large" top --count 99999999999999999999999
    usage "is no order" top --sort size
    usage "the name is empty" top -i ''
    usage "both want stdout" top --json --csv
    usage "which is meant" top -i none -i lo
    go top --help
    ends 0 "q ends it"
}

@test "nothing to see" {
    go top --once -T 10 -i none
    ends 0 "nothing"
    timeout 10 "$tool" top --once -T 10 --json -i none >out
    json out 'd["ports"] == [] and d["interfaces"] == []'
}

@test "rates are what is sent" {
    traffic
    timeout 20 "$tool" top --once --json -T 1000 -i none >out
    # The machine may be busy: of the order of what is sent, never more than could have been.
    json out '{p["name"] for p in d["ports"]} == {"vale1:a", "vale1:b"}'
    json out '100 < next(p["in_pps"] for p in d["ports"] if p["name"] == "vale1:b") < 10000'
    json out 'abs(next(p["in_bps"] / p["in_pps"] for p in d["ports"] if p["name"] == "vale1:b") - 480) < 1'
    json out 'next(p["in_pps"] for p in d["ports"] if p["name"] == "vale1:a") == 0'
    timeout 20 "$tool" top --count 2 -T 50 --csv -i none >out.csv
    python3 - <<'PY'
import csv
rows = list(csv.DictReader(open("out.csv")))
assert len(rows) == 4 and {r["name"] for r in rows} == {"vale1:a", "vale1:b"}, rows
first, last = [[r for r in rows if r["name"] == "vale1:b"][i] for i in (0, -1)]
assert int(last["in_frames"]) >= int(first["in_frames"]) and float(last["seconds"]) > float(first["seconds"])
PY
    go top --once -T 100
    ends 0 "vale1:b "
    says "pps"
    [[ $output != *$'\x1b'* ]]
}

@test "drops have their causes" {
    traffic
    # Nobody reads vale1:a any more.
    kill -STOP $(pgrep -P ${jobs_of_test[0]})
    drops() { timeout 10 "$tool" top --once -T 50 --json -i none >out && json out 'next(p["drops"]["full"] for p in d["ports"] if p["name"] == "vale1:a") > 0' >/dev/null 2>&1; }
    soon drops
    go top --once -T 50
    ends 0 "full"
    kill -CONT $(pgrep -P ${jobs_of_test[0]})
}

@test "a host that goes is gone from the view" {
    traffic
    in_background top timeout 60 "$tool" top -T 50 --json -i none
    soon grep -q vale1:a top.out
    kill -9 $("$NM_BIN/valectl" --json -l | python3 -c 'import json, sys; print(json.load(sys.stdin)["switches"][0]["pid"])')
    gone() { tail -n 1 top.out | grep -q '"ports": \[\]'; }
    soon gone
}

@test "kernel interfaces" {
    ping -q -c 1 -W 1 127.0.0.1 >/dev/null 2>&1 || true
    timeout 10 "$tool" top --once -T 20 --json -i lo >out
    json out '[i["name"] for i in d["interfaces"]] == ["lo"]'
    go top --once -T 20 --json -i nosuch0
    ends 1 "there is no interface nosuch0"
}

@test "a closed stdout, and a full disk" {
    run timeout 10 bash -c '"$0" top -T 10 -i lo | head -n 1' "$tool"
    [ "$status" -eq 0 ]
    run timeout 10 sh -c '"$0" top -T 10 -i lo >/dev/full' "$tool"
    ends 1 "No space left"
    run timeout 10 bash -c 'set -o pipefail; "$0" -T 10 -l --json | head -n 1' "$NM_BIN/valectl"
    ends 1 "cannot write to stdout"
}

@test "SIGINT and SIGTERM end it well" {
    local signal
    for signal in INT TERM; do
        run interrupted $signal 0.3 timeout 10 "$tool" top -T 50
        ends 0
    done
}

@test "as an ordinary user: one line of what is not seen, and all that is" {
    needs_nobody
    traffic
    ping -q -c 1 -W 1 127.0.0.1 >/dev/null 2>&1 || true
    run as_nobody "$tool" top --once -T 20 -i lo
    ends 0 "nmctl: only switches of user 65534 are seen, in $nobody/nm; sudo nmctl top shows root's"
    says "lo  "
    [[ $output != *vale1:a* ]]
    # The directory of somebody else's: no switch at all, but the interfaces.
    run timeout 20 setpriv --reuid 65534 --regid 65534 --clear-groups env NM_RUNTIME_DIR=/proc/self "$tool" top --once -T 20 --json -i lo
    ends 0 "no switch and no pipe can be seen: "
    says '"name": "lo"'
    # And its own.
    in_background theirs setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_RUNTIME_DIR NM_RUNTIME_DIR="$nobody/nm" timeout 30 "$NM_BIN/pkt-gen" -i vale9:mine -f rx
    mine() { as_nobody "$tool" top --once -T 20 -i none 2>/dev/null | grep -q vale9:mine; }
    soon mine
    # Who is root is not told anything.
    go top --once -T 20 -i none
    [[ $output != *"are seen"* ]]
}

@test "valectl: again and again, with rates" {
    traffic
    tool=$NM_BIN/valectl
    timeout 20 "$tool" -T 300 --count 3 --json >out
    json out 'd["type"] == "list" and next(p["in_pps"] for p in d["switches"][0]["ports"] if p["name"] == "vale1:b") > 50'
    [ "$(wc -l <out)" -eq 3 ]
    timeout 20 "$tool" -l vale1 -T 50 --count 2 --csv --metrics m.prom >out.csv
    [ "$(head -n 1 out.csv | cut -d, -f1-3)" = seconds,name,kind ]
    python3 "$BATS_TEST_DIRNAME/openmetrics.py" m.prom 'total("nm_port_frames_total", port="vale1:b", direction="tx") > 100'
    go -T 50 --count 2
    ends 0 "pps"
    usage "choose one" --json --csv
    usage "choose one" --json --metrics -
    usage "say -T MS" --count 3
    usage "are for -l" -d vale1:a --csv
    usage "out of range" -T 0
    usage "out of range" -T 1 --count 0
    usage "wants a value" -T
    usage "wants a value" --metrics
    run interrupted INT 0.3 timeout 10 "$tool" -T 50
    ends 0
}

# screen: what tmux shows.
screen() { tmux -S ./tmux capture-pane -p -t top; }
shows() { screen | grep -q -- "$1"; }
needs_tmux() { command -v tmux >/dev/null || skip "tmux is not installed (scripts/install-deps test)"; }
in_tmux() {
    needs_tmux
    tmux_of_test=1
    TERM=xterm env -u TMUX tmux -S ./tmux -f /dev/null new-session -d -x 120 -y 30 -s top "trap : INT; echo before; '$tool' top -T 100 $*; echo \"status \$?\"; stty -a | grep -o '.icanon'; exec sleep 60"
}

@test "on a screen: ports, keys, and what was there before is there again" {
    needs_tmux
    traffic
    in_tmux
    soon shows "PORT .*in pps"
    soon shows "vale1:b .*K"
    soon shows "by rate"
    ! shows before
    tmux -S ./tmux send-keys -t top s
    soon shows "by name"
    tmux -S ./tmux send-keys -t top s
    soon shows "by drops"
    tmux -S ./tmux send-keys -t top p
    soon shows "PAUSED"
    tmux -S ./tmux send-keys -t top p
    unpaused() { ! shows "PAUSED"; }
    soon unpaused
    # A small window, and a large one again.
    tmux -S ./tmux resize-window -t top -x 40 -y 5
    narrow() { [ "$(screen | grep -c .)" -le 5 ] && shows "nmctl top"; }
    soon narrow
    tmux -S ./tmux resize-window -t top -x 140 -y 40
    soon shows "PORT .*in pps.*cause"
    tmux -S ./tmux send-keys -t top q
    soon shows "status 0"
    shows before
    ! shows "in pps"
    soon shows " icanon"
}

@test "on a screen: signals give the terminal back, too" {
    needs_tmux
    ping -q -c 1 -W 1 127.0.0.1 >/dev/null 2>&1 || true
    in_tmux -i lo
    soon shows "INTERFACE"
    kill -TERM $(pgrep -f "^$tool top -T 100 -i lo" | head -n 1)
    soon shows "status 0"
    shows before
    soon shows " icanon"
    tmux -S ./tmux kill-server
    in_tmux -i lo
    soon shows "INTERFACE"
    tmux -S ./tmux send-keys -t top C-c
    soon shows "status 0"
    tmux -S ./tmux kill-server
    in_tmux -i lo
    soon shows "INTERFACE"
    local top=$(pgrep -f "^$tool top -T 100 -i lo" | head -n 1)
    # The terminal goes.
    tmux -S ./tmux kill-server
    ended() { ! kill -0 $top 2>/dev/null; }
    soon ended
}
