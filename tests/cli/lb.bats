#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# lb without privileges: its input is a pipe, and consumers are processes that come, go and are killed.

load tool

setup() {
    tool=$NM_BIN/lb
    cd "$BATS_TEST_TMPDIR"
}

teardown() {
    end_jobs
    end_namespaces
}

opened() { grep -q "$2" $1.err; }
# sends NUMBER: frames of 200 connections, from another process.
sends() { timeout 30 "$NM_BIN/pkt-gen" -i 'netmap:in}1' -f tx -n "$1" -s 10.0.0.1:1000-10.0.0.1:1199 -R "${2:-50000}" >/dev/null 2>&1; }
consumes() {
    in_background c$1 "$NM_BIN/pkt-gen" -i "netmap:out}$1" -f rx --json
    soon opened c$1 "netmap:out}$1: pipe"
}
# ends_well PID: SIGINT, and exit status 0.
ends_well() {
    kill -INT $1
    wait $1
}
# last EXPRESSION: it holds for d, the last line of lb.out.
last() { json lb.out "$1"; }
# so_far EXPRESSION: it holds for the sums over all lines of lb.out, per pipe.
so_far() {
    python3 - "$1" <<'PY' 2>/dev/null
import collections, json, sys
forwarded, dropped = collections.Counter(), collections.Counter()
queued = {}
for line in open("lb.out"):
    d = json.loads(line)
    for p in d["pipes"]:
        name = int(p["name"].rsplit("{", 1)[1])
        forwarded[name] += p["forwarded"]
        dropped[name] += p["dropped"]
        queued[name] = p["queued"]
sys.exit(not eval(sys.argv[1]))
PY
}

@test "spreads over consumers in processes of their own, swaps, and loses nothing" {
    local i all=0
    in_background lb "$tool" -i 'netmap:in{1' -p out:3 -B 4000 -n 6000 --json --expect-loss 0
    local lb=$pid
    soon opened lb 'netmap:out{2: pipe'
    for i in 0 1 2; do consumes $i; done
    sends 6000
    wait $lb
    last 'd["conserved"] and d["packets"] == 6000 and d["told_by"]["ports"] == 6000 and d["groups"][0]["forwarded"] == 6000'
    last 'all(p["swaps"] and p["consumer"] and p["forwarded"] > 500 and p["dropped"] == 0 for p in d["pipes"])'
    for i in 1 2 3; do ends_well ${jobs_of_test[$i]}; done
    for i in 0 1 2; do
        last "d['pipes'][$i]['forwarded'] == $(packets c$i.out)"
        all=$((all + $(packets c$i.out)))
    done
    [ $all -eq 6000 ]
}

@test "a consumer that comes first gets copies; so do all with --copy" {
    consumes 0
    in_background lb "$tool" -i 'netmap:in{1' -p out:1 -n 1000 --json --expect-loss 0
    local lb=$pid
    soon opened lb 'netmap:out{0: pipe'
    grep -q "frames between the two are copied" lb.err
    sends 1000
    wait $lb
    last 'd["packets"] == 1000 and not d["pipes"][0]["swaps"] and d["pipes"][0]["forwarded"] == 1000'
    ends_well ${jobs_of_test[0]}
    [ "$(packets c0.out)" -eq 1000 ]
    go -i 'netmap:in{2' -p more:2 --copy --feed 'netmap:in}2' --drain 'netmap:more}0' --drain 'netmap:more}1' -n 2000 -B 100
    ends 0 "conserved"
    says "copied"
    [[ $output != *swapped* ]]
}

@test "every group gets all frames, and groups of one name are numbered on" {
    "$tool" -i 'netmap:in{1' -p out:2 -p out:1 -p far:2 -B 8000 --feed 'netmap:in}1' -n 3000 --json >lb.out 2>lb.err
    last '[g["prefix"] for g in d["groups"]] == ["out", "out", "far"] and all(g["conserved"] for g in d["groups"])'
    last '[p["name"] for p in d["pipes"]] == ["netmap:out{0", "netmap:out{1", "netmap:out{2", "netmap:far{0", "netmap:far{1"]'
    last 'all(g["forwarded"] + g["queued"] + g["dropped"] == 3000 for g in d["groups"])'
    last 'd["extra_buffers"] == 8000 and d["extra_buffers_free"] == 8000 - sum(p["queued"] for p in d["pipes"])'
}

@test "a consumer that is killed and comes back goes on; the others notice nothing" {
    in_background lb "$tool" -i 'netmap:in{1' -p out:2 -B 1500 --slots 128 --json -T 20
    local lb=$pid
    soon opened lb 'netmap:out{1: pipe'
    consumes 0
    consumes 1
    # Slowly: who lives may be off its CPU for half a second.
    in_background tx "$NM_BIN/pkt-gen" -i 'netmap:in}1' -f tx -s 10.0.0.1:1000-10.0.0.1:1199 -R 3000
    soon so_far 'forwarded[0] > 300 and forwarded[1] > 300'
    kill -9 ${jobs_of_test[1]}
    wait ${jobs_of_test[1]} || true
    soon so_far 'dropped[0] > 300 and queued[0] > 700'
    so_far 'dropped[1] == 0'
    consumes 0
    soon so_far 'queued[0] == 0'
    local now
    now=$(python3 -c 'import json; print(sum(json.loads(l)["pipes"][0]["forwarded"] for l in open("lb.out") if l.endswith("\n")))')
    soon so_far "forwarded[0] > $now + 300"
    kill -9 ${jobs_of_test[3]}
    ends_well $lb
    last 'd["conserved"] and d["pipes"][1]["dropped"] == 0 and d["pipes"][0]["dropped"] > 300'
    ends_well ${jobs_of_test[4]}
    [ "$(packets c0.out)" -gt 300 ]
}

@test "a killed sender is followed by another; lb stays" {
    in_background lb "$tool" -i 'netmap:in{1' -p out:1 -B 20000 --json -T 20
    local lb=$pid
    soon opened lb 'netmap:out{0: pipe'
    in_background tx "$NM_BIN/pkt-gen" -i 'netmap:in}1' -f tx -R 2000
    soon so_far 'forwarded[0] > 100'
    kill -9 $pid
    wait $pid || true
    soon sends 500
    ends_well $lb
    last 'd["conserved"] and d["packets"] > 600'
}

@test "lb is killed and started again" {
    in_background lb "$tool" -i 'netmap:in{1' -p out:1 --json
    local lb=$pid
    soon opened lb 'netmap:out{0: pipe'
    consumes 0
    sends 300
    kill -9 $lb
    wait $lb || true
    wait ${jobs_of_test[1]} || true  # pkt-gen ends when its peer is killed
    grep -q "has gone" c0.err
    in_background lb "$tool" -i 'netmap:in{1' -p out:1 -n 300 --json --expect-loss 0 -B 1000
    lb=$pid
    soon opened lb 'netmap:out{0: pipe'
    consumes 0
    sends 300
    wait $lb
    last 'd["packets"] == 300 and d["conserved"]'
}

@test "lb ends and is started again; a consumer that stays gets copies from the next one" {
    local i lb
    for i in 1 2; do
        in_background lb$i "$tool" -i 'netmap:in{1' -p out:1 -B 1000 -n 300 --json --expect-loss 0
        lb=$pid
        soon opened lb$i 'netmap:out{0: pipe'
        [ $i = 2 ] || consumes 0
        sends 300
        wait $lb
        json lb$i.out "d['packets'] == 300 and d['conserved'] and d['pipes'][0]['swaps'] == ($i == 1) and d['pipes'][0]['forwarded'] == 300"
    done
    ends_well ${jobs_of_test[1]}
    [ "$(packets c0.out)" -eq 600 ]
}

@test "a kernel interface: its frames are swapped into pipes" {
    [ "$(id -u)" -eq 0 ] || skip "not root: no namespaces"
    namespaces nmlb w || skip "cannot make network namespaces here"
    ip -n ${ns}w link add lb0 type veth peer name lb1
    in_ns w sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'
    ip -n ${ns}w link set lb0 up
    ip -n ${ns}w link set lb1 up
    in_background lb ip netns exec ${ns}w "$tool" -i netmap:lb1 -p out:2 -B 2000 --json -n 2000 --expect-loss 0  # no more than the ring has slots
    local lb=$pid failed=0
    soon opened lb 'netmap:out{1: pipe' || failed=1
    consumes 0
    consumes 1
    in_ns w timeout 30 "$NM_BIN/pkt-gen" -i netmap:lb0 -f tx -n 2000 -R 20000 -s 10.0.0.1:1000-10.0.0.1:1199 >/dev/null 2>&1 || failed=1
    wait $lb || failed=1
    ip netns del ${ns}w  # the host of the pipes lives on
    [ $failed -eq 0 ]
    last 'd["conserved"] and d["packets"] == 2000 and all(p["swaps"] and p["forwarded"] > 300 for p in d["pipes"])'
    last 'd["input"]["kernel"]["rx_packets"] >= 2000 and d["input"]["kernel"]["rx_dropped"] == 0'
    ends_well ${jobs_of_test[1]}
    ends_well ${jobs_of_test[2]}
    [ $(($(packets c0.out) + $(packets c1.out))) -eq 2000 ]
}

@test "whoever is the host is killed: lb says so, and the sums agree" {
    in_background lb "$tool" -i 'netmap:in{1' -p out:1 --json
    local lb=$pid host
    soon opened lb 'netmap:out{0: pipe'
    sends 100
    host=$(timeout 10 python3 -c '
import os
for p in filter(str.isdigit, os.listdir("/proc")):
    try:
        if os.readlink(f"/proc/{p}/exe").endswith("/nm-host") and os.environ["NM_RUNTIME_DIR"].encode() in open(f"/proc/{p}/environ", "rb").read(): print(p)
    except OSError: pass')
    [ -n "$host" ]
    kill -9 $host
    local status=0
    wait $lb || status=$?
    [ $status -eq 1 ]
    grep -q "nm-host, which kept the pipe, has gone" lb.err
    last 'd["conserved"] and d["packets"] == 100'
}

@test "rate lines, statistics as netmap's, csv" {
    local pipes=(-i 'netmap:in{1' -p out:2 --feed 'netmap:in}1')
    go "${pipes[@]}" --time 0.5 -T 100
    [[ $output =~ main_thread\ \[nm\]\ [0-9.]+\ [KM]?pps\ \([0-9.]+\ [KM]?pkts\  ]]
    says "forwarded/dropped/queued: "
    "$tool" "${pipes[@]}" --time 1.6 -o 1 -s 1 >out 2>err
    json out 'len(lines) % 3 == 0 and len(lines) > 0 and d["output_ring"] is None and d["packets_received"] > 0 and d["interface"] == "netmap:in{1"'
    json out 'lines[1]["interface"] == "netmap:out{1" and lines[1]["output_ring"] == 1 and lines[0]["packets_forwarded"] + lines[1]["packets_forwarded"] == lines[2]["packets_forwarded"]'
    json out 'd["packets_received"] == d["packets_forwarded"] + d["packets_dropped"] or d["free_buffer_slots"] == 0'
    "$tool" "${pipes[@]}" -n 1000 --csv >out 2>err
    [ "$(head -n 1 out)" = "type,seconds,packets,bytes,pps,bps,avg_batch" ]
    grep -q '^summary,[0-9.]*,1000,60000,' out
    [ "$(awk -F, '/^(forwarded|dropped) netmap:out/ { n += $3 } END { print n }' out)" -eq 1000 ]
}

@test "-W looks without sleeping, without it lb sleeps" {
    python3 - "$tool" <<'PY'
import resource, subprocess, sys
def cpu(*more):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.argv[1], "-i", "netmap:in{1", "-p", "out:2", "-B", "100", "--time", "1", *more], check=True, capture_output=True, timeout=20)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
idle, busy = cpu(), cpu("-W")
assert idle < 0.25 and busy > idle, (idle, busy)
PY
}

@test "spreads alike with one key" {
    local i
    for i in 1 2; do
        in_background lb "$tool" -i 'netmap:in{1' -p out:4 -B 2000 -n 200 --json --hash-key 12345
        local lb=$pid
        soon opened lb 'netmap:out{3: pipe'
        sends 200
        wait $lb
        python3 -c 'import json; print([p["forwarded"] for p in json.loads(open("lb.out").readlines()[-1])["pipes"]])' >key.$i
    done
    cmp key.1 key.2
}

@test "expectations and modes decide the exit status" {
    local pipes=(-i 'netmap:in{1' -p out:1 --feed 'netmap:in}1')
    go "${pipes[@]}" -n 5000 --expect-loss 0
    ends 3 "NOT MET"
    go "${pipes[@]}" --drain 'netmap:out}0' -n 5000 -B 10k --expect-loss 0 --expect-pps '>1'
    ends 0 "5000 received = 5000 forwarded + 0 dropped + 0 queued: conserved"
    go "${pipes[@]}" --drain 'netmap:out}0' -n 5000 --expect-pps '<1'
    ends 3 "NOT MET"
    go "${pipes[@]}" -n 10 --require-mode pipe
    ends 0
    go "${pipes[@]}" -n 10 --require-mode af_packet
    ends 1 "opens in mode pipe"
}

@test "SIGINT prints the table" {
    interrupted INT 0.5 "$tool" -i 'netmap:in{1' -p out:1 --feed 'netmap:in}1' --json
    json out 'd["type"] == "summary" and d["conserved"] and d["packets"] > 0'
    grep -q ": conserved" err
}

@test "a closed stdout and a full disk are told in a sentence" {
    run bash -c "'$tool' -i 'netmap:in{1' -p out:1 --feed 'netmap:in}1' --time 5 -T 50 --json 2>err | head -n 1 >/dev/null; exit \${PIPESTATUS[0]}"
    ends 1
    grep -q "cannot write to stdout" err
    run bash -c "'$tool' -i 'netmap:in{1' -p out:1 --feed 'netmap:in}1' -n 100 2>err >/dev/full"
    ends 1
    grep -q "cannot write to stdout: No space left" err
}

@test "names" {
    go -i 'netmap:x}7' -p 3 --time 0.01
    ends 0 "netmap:x{2"
    go -i 'netmap:x}7' --time 0.01
    ends 0 "x x 2:"
    go -i 'netmap:x}7' -p vale3:y:2 -p 'netmap:z:' --time 0.01
    ends 0 "vale3:y{1"
    says "netmap:z{1"
    usage "is an end of the pipe that -p would make" -i 'netmap:x}1'
    usage "has no name for pipes to go by" -i null
    usage "has nothing before its colon" -i null -p :3
    usage "32 pipes of" -i null -p a:16 -p a:16
    usage "there can be 128" -i null -p a:31 -p b:31 -p c:31 -p d:31 -p e:5
    go -i null -p a:1 --time 0.01
    ends 0 "0 received = 0 forwarded"
}

@test "bad command lines" {
    usage "no input given"
    usage "was given twice" -i null:a -i null:b
    usage 'did you mean "netmap:ens192"?' -i ens192
    usage "stands alone" null:a
    usage "is no option" -i null:a -Z
    usage "is no mode" -i null:a --require-mode quick
    usage "choose one" -i null:a --json --csv
    usage "choose one" -i null:a --json -o 1
    local o
    for o in i p b B s o w n T -interface -pipes -burst -extra-buffers -syslog -stats -wait-link -slots -hash-key -count -time -report -feed -drain \
        -require-mode -expect-loss -expect-pps; do
        usage "wants a value" -i null:a -$o
    done
    for o in p b B s o w n T -slots -hash-key -time -expect-loss -expect-pps; do
        usage '"abc"' -i null:a -$o abc
        usage '"-1"' -i null:a -$o -1
        usage '"99999999999999999999999"' -i null:a -$o 99999999999999999999999
        [ $o = p ] || usage '""' -i null:a -$o ''
    done
    usage "out of range" -i null:a -p 0
    usage "out of range" -i null:a -p x:32
    usage "out of range" -i null:a -b 0
    usage "out of range" -i null:a -B 3M
    usage "out of range" -i null:a --slots 8
    go -i netmap:nosuchport0
    ends 1 "nosuchport0"
}

@test "every letter of netmap's lb is in the help, and has a long name" {
    go --help
    ends 0
    local o
    for o in h i p b B s o w W; do
        grep -qE "^  -$o, --[a-z0-9-]+" <<<"$output" || { echo "no -$o"; return 1; }
    done
    go --version
    ends 0 "pipes"
}
