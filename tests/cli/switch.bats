#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# switch: alone without privileges; with them, three namespaces on it and the host's stack.
#   s0 10.79.0.1 -- m0 |             | h0 10.79.0.100, fd00:79::100: the switch's own namespace
#   s1 10.79.0.2 -- m1 | switch (sw) |
#   s2 10.79.0.3 -- h0 |

load tool

setup_file() {
    namespaces nmsw w 0 1 2 || return 0
    local i
    for i in 0 1 2; do
        local m=m$i
        [ $i -ne 2 ] || m=h0
        ip link add $m netns ${ns}w type veth peer name s$i netns $ns$i
        ip -n ${ns}w link set $m up
        ip -n $ns$i addr add 10.79.0.$((i + 1))/24 dev s$i
        ip -n $ns$i addr add fd00:79::$((i + 1))/64 dev s$i nodad
        ip -n $ns$i link set s$i up
    done
    ip -n ${ns}w addr add 10.79.0.100/24 dev h0
    ip -n ${ns}w addr add fd00:79::100/64 dev h0 nodad
    namespaces_ready
}

teardown_file() { end_namespaces; }

setup() {
    tool=$NM_BIN/switch
    cd "$BATS_TEST_TMPDIR"
}

teardown() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
}

# start_switch ARGUMENTS...: in the background; returns when all members are open. $pid is the switch's own.
start_switch() { starts w 1 ' members$' "$@"; }
reaches() {
    local from=$1 to
    shift
    for to in "$@"; do
        run in_ns "$from" ping -q -c 20 -i 0.005 -W 2 "$to"
        ends 0 " 0% packet loss"
    done
}
nothing_left() {
    local i left
    for i in $(seq 40); do
        left=$(in_ns w nft list ruleset 2>/dev/null)$(ip -n ${ns}w -d link show | grep -oE 'nmhost|xdp[a-z]*|promiscuity [1-9]' || true)
        [ -z "$left" ] && return 0
        sleep 0.05
    done
    echo "left: $left"
    return 1
}

@test "alone: members of any kind, and it ends by itself" {
    go -i 'netmap:p{1' -i null:a -n vale7 --time 0.2
    ends 0 "vale7: 0 accepted + 0 copies = 0 delivered + 0 dropped: conserved"
}

@test "--json and -T" {
    "$tool" -i 'netmap:p{1' -i null:a --time 0.5 -T 100 --json >out 2>err
    json out 'd["type"] == "summary" and d["conserved"] and [p["name"] for p in d["ports"]] == ["p{1", "null:a"]'
    json out 'len(lines) >= 3 and lines[0]["type"] == "interval" and lines[0]["ports"][0]["rx_pps"] == 0'
    grep -q "0 floods, 0 dropped" err
}

@test "SIGINT and SIGTERM print the table" {
    for signal in INT TERM; do
        interrupted $signal 0.3 "$tool" -i 'netmap:p{1' --json
        json out 'd["type"] == "summary" and d["conserved"]'
    done
}

@test "idle, it sleeps" {
    python3 - "$tool" <<'PY'
import resource, subprocess, sys
subprocess.run([sys.argv[1], "-i", "netmap:a{1", "-i", "netmap:b{1", "--time", "1"], check=True, capture_output=True, timeout=10)
r = resource.getrusage(resource.RUSAGE_CHILDREN)
assert r.ru_utime + r.ru_stime < 0.2, r
PY
}

@test "bad command lines" {
    usage "no member given"
    usage "stands alone" null:a
    usage "is no option" -i null:a -Z
    for o in i h n T -storm -time -report -name; do usage "wants a value" -i null:a -$o; done
    for o in T -storm -time; do usage '"abc"' -i null:a -$o abc; done
    go -i null:a -n switch0 --time 0.1
    ends 1 '"switch0" is no name for a switch'
    go -i nosuch0
    ends 1 "nosuch0"
    go -i null:a -i null:a --time 0.1
    ends 1 "null:a is a member already, as vale0:null:a"
    go --help
    ends 0 "usage: switch -i PORT"
}

@test "three namespaces, one of them the switch's own: everybody reaches everybody" {
    needs_namespaces
    start_switch -i m0 -i netmap:m1 -h h0 --json -T 500
    grep -q "netmap:m0: af_packet" err
    grep -q "netmap:h0^: host" err
    reaches 0 10.79.0.2 10.79.0.3 10.79.0.100 fd00:79::2 fd00:79::3 fd00:79::100
    reaches 1 10.79.0.3 10.79.0.100 fd00:79::100
    reaches 2 10.79.0.100 fd00:79::100
    reaches w 10.79.0.1 10.79.0.2 10.79.0.3 fd00:79::3
    [ "$(transfer 1 0 10.79.0.2)" -gt 1000000 ]
    [ "$(transfer w 0 10.79.0.100)" -gt 1000000 ]
    [ "$(transfer 2 w 10.79.0.3)" -gt 1000000 ]
    stops
    json out 'd["type"] == "summary" and d["conserved"] and all(p["conserved"] for p in d["ports"])'
    json out '[p["name"] for p in d["ports"]] == ["m0", "m1", "h0", "h0^"]'
    json out 'all(p["rx"]["frames"] > 100 and p["tx"]["frames"] > 100 and p["tx"]["unsent"] == 0 for p in d["ports"])'
    json out 'd["switch"]["accepted"] + d["switch"]["replicas"] == d["switch"]["delivered"] + d["switch"]["dropped"]'
    json out 'd["switch"]["stations"] >= 4 and d["switch"]["replicas"] > 0'
    # Few frames went to all: the others had been learnt.
    json out 'sum(p["to_switch"]["floods"] for p in d["ports"]) < d["switch"]["accepted"] / 4'
    json out 'any(l["type"] == "interval" and l["ports"][0]["rx_pps"] > 0 for l in lines)'
    nothing_left
}

@test "kill -9 leaves nothing, and the host has its interface back" {
    needs_namespaces
    start_switch -i m0 -h h0
    reaches 0 10.79.0.100 10.79.0.3
    kill -9 $pid
    pid=
    nothing_left
    reaches 2 10.79.0.100
    run in_ns 0 ping -q -c 1 -W 1 10.79.0.100
    ends 1 "100% packet loss"
}

@test "a member that goes leaves the others running" {
    needs_namespaces
    ip link add m9 netns ${ns}w type veth peer name s9 netns ${ns}2
    ip -n ${ns}w link set m9 up
    ip -n ${ns}2 link set s9 up
    start_switch -i m0 -i m1 -i m9
    reaches 0 10.79.0.2
    ip -n ${ns}w link del m9
    local i
    for i in $(seq 40); do
        grep -q "m9 is gone" err && break
        sleep 0.05
    done
    grep -q "m9 is gone; close the port; it leaves the switch" err
    ip -n ${ns}w link set m1 down
    sleep 0.2
    ip -n ${ns}w link set m1 up
    run in_ns 0 ping -q -c 3 -i 0.2 -W 2 10.79.0.2
    reaches 0 10.79.0.2
    stops TERM
    grep -q "^m9 .*" out
    grep -q "^vale0: .*: conserved" out
    nothing_left
}

@test "--csv: a row per member and report" {
    "$tool" -i null:x -i null:y --csv -T 100 --time 0.5 >out 2>err
    python3 - <<'PY'
import csv
rows = list(csv.DictReader(open("out")))
assert len(rows) >= 4 and {r["name"] for r in rows} == {"null:x", "null:y"} and {r["kind"] for r in rows} == {"member"}, rows
assert float(rows[-1]["seconds"]) >= float(rows[0]["seconds"]) > 0 and all(r["in_frames"] == "0" for r in rows)
PY
    grep -q ": conserved" err
    usage "choose one" -i null:x --csv --json
    usage "choose one" -i null:x --csv --metrics -
}

@test "expectations and modes decide the exit status" {
    go -i null:x -i null:y --time 0.1 --expect-loss 0 --expect-pps '<1'
    ends 0 "met"
    go -i null:x --time 0.1 --expect-pps 1
    ends 3 "NOT MET"
    timeout 20 "$tool" -i null:x --time 0.1 --expect-pps 1 --json >out 2>err || true
    json out 'd["conserved"] and [e["met"] for e in d["expectations"]] == [False]'
    go -i null:x --time 0.1 --require-mode null
    ends 0
    go -i null:x --time 0.1 --require-mode af_packet
    ends 1 "opens in mode null"
    usage "is no mode" -i null:x --require-mode fast
    for o in require-mode expect-loss expect-pps csv=x metrics; do
        usage "value" -i null:x --$o
    done
    usage '"abc"' -i null:x --expect-loss abc
    usage "too large" -i null:x --expect-pps 99999999999999999999999
}
