#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# ptnet-if: two joints in one program, in namespace w, where the first one's interface stays; the second one's goes to p.
#   pta 10.81.0.1, fd00:81::1 in w  -- PORT | PORT --  ptb 10.81.0.2, fd00:81::2 in p

load tool

setup_file() {
    namespaces nmpi w p || return 0
    namespaces_ready
}

teardown_file() { end_namespaces; }

setup() {
    tool=$NM_BIN/ptnet-if
    cd "$BATS_TEST_TMPDIR"
}

teardown() {
    end_jobs
    [ -z "$NMCLI_READY" ] || ip netns pids ${ns}w | xargs -r kill -9
}

needs_tun() {
    needs_namespaces
    [ -c /dev/net/tun ] || skip "no /dev/net/tun"
}
# join PORT PORT ARGUMENTS...: in the background; returns when both interfaces can be used. $pid is the program's own.
join() {
    local a=$1 b=$2
    shift 2
    starts w 1 ' joined$' --json -i "$a" -n pta -i "$b" -n ptb "$@"
    ip -n ${ns}w link set ptb netns ${ns}p
    ip -n ${ns}w addr add 10.81.0.1/24 dev pta
    ip -n ${ns}w addr add fd00:81::1/64 dev pta nodad
    ip -n ${ns}p addr add 10.81.0.2/24 dev ptb
    ip -n ${ns}p addr add fd00:81::2/64 dev ptb nodad
    ip -n ${ns}p link set ptb up
}
reaches() {
    in_ns w ping -q -c 20 -i 0.005 -W 2 "$1" >ping.txt || { cat ping.txt; return 1; }
    grep -q ' 0% packet loss' ping.txt || { cat ping.txt; return 1; }
}
# tcp ADDRESS [-R]: a second of TCP; the mean rate has to be one that no retransmission timer allows.
tcp() {
    in_ns p timeout 20 iperf3 -s -1 >/dev/null 2>&1 3>&- &
    local i
    for i in $(seq 100); do
        in_ns p ss -Hltn | grep -q :5201 && break
        sleep 0.05
    done
    in_ns w timeout 20 iperf3 -c "$@" -t 1 -J >iperf.json
    json_of_iperf
}
json_of_iperf() {
    python3 -c 'import json; d = json.load(open("iperf.json")); assert "error" not in d, d["error"]; assert d["end"]["sum_received"]["bits_per_second"] > 20e6, d["end"]'
}
# What every run ends with: no frame is unaccounted for, and the kernel's counters of the interface that stayed say the same.
is_conserved() {
    json out 'd["conserved"] and all(j["conserved"] for j in d["joints"])'
    json out 'd["joints"][0]["kernel"]["sent"] == d["joints"][0]["from_stack"]["frames"] > 0'
    json out 'd["joints"][0]["kernel"]["received"] == d["joints"][0]["to_stack"]["whole"] > 0'
}

@test "says what is wrong, and what to do" {
    usage "no port given"
    usage "is no name of an interface" -i netmap:p{1 -n a/b
    usage "belongs to the -i before it" -n pta -i netmap:p{1
    usage "10 or 12 bytes, or there is none" -i netmap:p{1 -H 11
    usage "out of range" -i netmap:p{1 -M 60
    usage "is not a MAC address" -i netmap:p{1 -m 12
    go --help
    ends 0 "usage: ptnet-if"
}

@test "what it does meanwhile: lines, objects, rows" {
    needs_tun
    in_ns w timeout 20 "$tool" -i netmap:q{1 -n pta --time 0.5 -T 50 --json >out 2>err
    json out 'd["type"] == "summary" and d["conserved"] and len(lines) >= 2 and lines[0]["type"] == "interval" and "conserved" not in lines[0]'
    in_ns w timeout 20 "$tool" -i netmap:q{1 -n pta --time 0.5 -T 50 --csv >out 2>err
    python3 - <<'PY'
import csv
rows = list(csv.DictReader(open("out")))
assert len(rows) >= 2 and {(r["name"], r["kind"], r["who"]) for r in rows} == {("pta", "interface", "q{1")}, rows
PY
    usage "choose one" -i netmap:q{1 --csv --json
    usage "out of range" -i netmap:q{1 -T 0
    usage '"abc"' -i netmap:q{1 -T abc
    usage "too large" -i netmap:q{1 -T 99999999999999999999999
    usage "wants a value" -T
}

@test "an interface has the name, the address and the MTU that it was given" {
    needs_tun
    join netmap:p{1 netmap:p}1 -m 02:00:00:00:81:02 -M 1400
    run ip -n ${ns}p -o link show ptb
    says "02:00:00:00:81:02"
    says "mtu 1400"
    run ip -n ${ns}w -o link show pta
    says "mtu 1500"
    run in_ns w timeout 5 "$tool" -i netmap:q{1 -n pta
    ends 1 "there is an interface pta already; choose another name (-n)"
    stops
    run in_ns w ip link show pta
    [ "$status" -ne 0 ]
}

@test "two stacks meet on a switch, with frames of 64 KiB and no checksum made" {
    needs_tun
    join vale81:a vale81:b --own-switch
    reaches 10.81.0.2
    reaches fd00:81::2
    tcp 10.81.0.2
    tcp 10.81.0.2 -R
    tcp fd00:81::2
    stops
    is_conserved
    json out 'all(j["header"] == 10 and j["from_stack"]["large"] > 0 and j["to_stack"]["large"] > 0 for j in d["joints"])'
    json out 'all(j["from_stack"]["completed"] == j["from_stack"]["cut"] == j["tx"]["dropped"] == 0 for j in d["joints"])'
}

@test "the same with headers of 12 bytes" {
    needs_tun
    join vale81:a vale81:b --own-switch -H 12
    reaches 10.81.0.2
    tcp 10.81.0.2
    tcp 10.81.0.2 -R
    stops
    is_conserved
    json out 'all(j["header"] == 12 and j["from_stack"]["large"] > 0 for j in d["joints"])'
}

@test "two programs in two namespaces meet on one switch" {
    needs_tun
    [ -x "$NM_BIN/nm-host" ] || skip "no nm-host"
    local n k=1 i
    for n in w p; do
        ip netns exec $ns$n timeout -s INT 60 "$tool" --json -i vale82:$n -n pt0 >out.$n 2>err.$n 3>&- &
        for i in $(seq 100); do
            grep -q ' joined$' err.$n && break
            sleep 0.05
        done
        ip -n $ns$n addr add 10.81.0.$k/24 dev pt0
        ip -n $ns$n addr add fd00:81::$k/64 dev pt0 nodad
        k=$((k + 1))
    done
    reaches 10.81.0.2
    reaches fd00:81::2
    tcp 10.81.0.2
    tcp 10.81.0.2 -R
    # Both sleep, and so does the switch's host.
    local all=$(ip netns pids ${ns}w; ip netns pids ${ns}p; pgrep -f "nm-host.* vale82") before after
    sleep 0.5
    before=$(for i in $all; do cat /proc/$i/stat; done | awk '{t += $14 + $15} END {print t}')
    sleep 1
    after=$(for i in $all; do cat /proc/$i/stat; done | awk '{t += $14 + $15} END {print t}')
    [ $((after - before)) -le 15 ]
    for n in w p; do
        ip netns pids $ns$n | xargs -r ps -o pid=,comm= -p | awk '$2 == "ptnet-if" { print $1 }' | xargs kill -INT
    done
    wait
    for n in w p; do
        json out.$n 'd["conserved"] and d["joints"][0]["header"] == 10 and d["joints"][0]["to_stack"]["dropped"] == 0'
        json out.$n 'd["joints"][0]["from_stack"]["large"] > 0 and d["joints"][0]["to_stack"]["large"] > 0 and d["joints"][0]["kernel"]["sent"] == d["joints"][0]["from_stack"]["frames"]'
    done
}

@test "a port whose host dies is told, after the books" {
    needs_tun
    [ -x "$NM_BIN/nm-host" ] || skip "no nm-host"
    in_ns w timeout 20 "$tool" --json -i vale83:a -n pta >out 2>err 3>&- &
    local i
    for i in $(seq 100); do
        grep -q ' joined$' err && break
        sleep 0.05
    done
    ip netns pids ${ns}w | xargs -r ps -o pid=,args= -p | awk '/nm-host.* vale83/ { print $1 }' | xargs kill -9
    status=0
    wait $! || status=$?
    [ "$status" -eq 1 ]
    grep -q "its host has gone" err
    json out 'd["conserved"]'
}

@test "over a pipe, which has no header, checksums and segments are made here" {
    needs_tun
    join netmap:p{1 netmap:p}1
    reaches 10.81.0.2
    reaches fd00:81::2
    tcp 10.81.0.2
    tcp 10.81.0.2 -R
    tcp fd00:81::2
    stops
    is_conserved
    json out 'all(j["header"] == 0 and j["from_stack"]["cut"] > 0 and j["from_stack"]["completed"] > 0 and j["to_stack"]["large"] == 0 for j in d["joints"])'
    json out 'd["joints"][0]["tx"]["frames"] == d["joints"][1]["rx"]["frames"] and d["joints"][1]["tx"]["frames"] == d["joints"][0]["rx"]["frames"]'
}

@test "short rings hold one packet at a time" {
    needs_tun
    join netmap:p{1@conf:slots=4 netmap:p}1@conf:slots=4
    reaches 10.81.0.2
    tcp 10.81.0.2
    stops
    is_conserved
}

@test "nothing to do costs no time, and an interface that is deleted is told" {
    needs_tun
    join netmap:p{1 netmap:p}1
    sleep 0.5
    local before after
    before=$(awk '{print $14 + $15}' /proc/$pid/stat)
    sleep 1
    after=$(awk '{print $14 + $15}' /proc/$pid/stat)
    [ $((after - before)) -le 10 ]
    ip -n ${ns}w link del pta
    local i
    for i in $(seq 100); do
        [ -e /proc/$pid ] || break
        sleep 0.05
    done
    pid=
    run wait $!
    run cat err
    says "interface pta has been deleted"
}
