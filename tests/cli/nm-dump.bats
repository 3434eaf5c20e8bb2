#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# nm-dump: what it writes is read by tshark.

load tool

teardown() {
    local n
    for n in a b; do
        [ -n "$ns" ] && [ -e "/run/netns/$ns$n" ] || continue
        ip netns pids "$ns$n" | xargs -r kill -9
        ip netns del "$ns$n"
    done
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    tool=$NM_BIN/nm-dump
    pipe=(--feed 'netmap:p{1' --drain 'netmap:p}1')
}

# Whatever user this runs as.
shark() {
    command -v tshark >/dev/null || skip "tshark is not installed"
    HOME=$BATS_TEST_TMPDIR timeout 20 tshark "$@" 2>/dev/null
}

@test "usage errors have a sentence and status 2" {
    usage "no port given"
    usage "no option of this program" --frob
    usage "unknown flag" -i 'netmap:p{1/q'
    usage "both want stdout" -i 'netmap:p{1/t' -w - --json
    usage "out of range" -i 'netmap:p{1/t' -s 300000
    usage "-f:" -i 'netmap:p}1' -f 'frob frob'
}

@test "a monitor of what nobody has open is an error that says what to do" {
    go -i 'netmap:p{1/rt'
    ends 1 "p{1 is not open in this program"
    says "--feed"
    go -i 'null:x/t' -c 1
    ends 1 "null:x is not open"
}

@test "a line per packet" {
    go -i 'netmap:p{1/t' "${pipe[@]}" -c 3
    ends 0 "netmap:p{1/t out 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff, 10.0.0.2:1234 > 10.1.0.1:1234 UDP, length 60"
    says "netmap:p{1/t: 3 packets, 180 bytes"
    [ "$(grep -c ' out ' <<<"$output")" -eq 3 ]
}

@test "the summary as JSON has the sums" {
    run bash -c "timeout 20 '$tool' -i 'netmap:p}1' --feed 'netmap:p{1' -c 1000 -w x.pcapng --json >out 2>err"
    ends 0
    json out "d['packets'] == 1000 and d['ports'][0]['packets'] == 1000 and d['ports'][0]['dropped'] == 0"
    json out "d['ports'][0]['mode'] == 'pipe'"
}

@test "pcapng has interfaces, directions, lengths and the time of day" {
    before=$(date +%s)
    go -i 'netmap:p{1/rt' -i 'netmap:p}1/rt' "${pipe[@]}" -c 5000 -w x.pcapng  # more than lie in one ring
    ends 0 "netmap:p}1/rt"
    after=$(date +%s)
    shark -r x.pcapng -T fields -e frame.interface_name -e frame.packet_flags_direction -e frame.len >fields
    [ "$(wc -l <fields)" -eq 5000 ]
    # What one end sends is what the other receives.
    [ "$(sort -u fields)" = "$(printf 'netmap:p{1/rt\t0x00000002\t60\nnetmap:p}1/rt\t0x00000001\t60')" ]
    shark -r x.pcapng -T fields -e frame.time_epoch |
        awk -v a="$before" -v b="$after" '$1 < a || $1 > b + 1 { exit 1 }'
    shark -r x.pcapng -z io,phs -q | grep -q 'udp *frames:5000'
}

@test "statistics stand at the end, also after an interrupt" {
    interrupted INT 1 "$tool" -i 'netmap:p{1/t' "${pipe[@]}" -s 20 -w x.pcapng
    grep -q "packets" out
    command -v capinfos >/dev/null || skip "capinfos is not installed"
    HOME=$BATS_TEST_TMPDIR capinfos x.pcapng >info 2>/dev/null
    grep -q "Number of stat entries = 1" info
    grep -q "Capture length = 20" info
    python3 - out x.pcapng <<'PY'
import re, struct, sys
said = re.search(r"(\d+) packets, .* (\d+) dropped", open(sys.argv[1]).read())
data = open(sys.argv[2], "rb").read()
at, packets, stats = 0, 0, {}
while at < len(data):
    kind, length = struct.unpack_from("<II", data, at)
    assert length % 4 == 0 and struct.unpack_from("<I", data, at + length - 4)[0] == length
    packets += kind == 6
    if kind == 5:
        o = at + 20
        while True:
            code, n = struct.unpack_from("<HH", data, o)
            if code == 0: break
            stats[code] = struct.unpack_from("<Q", data, o + 4)[0]
            o += 4 + (n + 3) // 4 * 4
    at += length
assert packets == int(said[1]), (packets, said[0])
assert stats[5] == int(said[2]) and stats[4] == packets + stats[5], (stats, said[0])
PY
}

@test "read as it comes: packets are there before the dump ends" {
    # One packet every now and then; a reader that gets each at once.
    run timeout 20 python3 - "$tool" <<'PY'
import struct, subprocess, sys, time
p = subprocess.Popen([sys.argv[1], "-i", "netmap:p}1", "--feed", "netmap:p{1", "-c", "3", "-w", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
p.wait(timeout=15)
q = subprocess.Popen([sys.argv[1], "-i", "netmap:p}1", "-w", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
head = q.stdout.read(8)      # the section is there although nothing has come
assert struct.unpack("<I", head[:4])[0] == 0x0a0d0d0a
assert q.poll() is None
q.terminate()
assert q.wait(timeout=5) == 0
PY
    ends 0
    "$tool" -i 'netmap:p{1/t' "${pipe[@]}" -c 200 -w - 2>/dev/null >pipe.out
    shark -r - <pipe.out | tail -1 | grep -q '^ *200 '
}

@test "a reader that goes away is an error, not a signal" {
    run bash -c "timeout 20 '$tool' -i 'netmap:p{1/t' --feed 'netmap:p{1' --drain 'netmap:p}1' -w - 2>err | head -c 1000 >/dev/null; echo \${PIPESTATUS[0]}"
    says 1
    grep -q "who was to read it has gone" err
}

@test "a filter chooses" {
    "$tool" --version | grep -q "no libpcap" && skip "built without libpcap"
    go -i 'netmap:p{1/t' "${pipe[@]}" -f 'udp port 1234' -c 10
    ends 0 "10 packets"
    go -i 'netmap:p{1/t' "${pipe[@]}" -f tcp --time 0.3
    ends 0 "0 packets"
    says "not wanted by the filter"
}

@test "an expectation that is not met is status 3" {
    go -i 'netmap:p}1' --feed 'netmap:p{1' -c 100 -w x.pcapng --expect-loss 0
    ends 0 "met"
    go -i 'netmap:p{1/t@conf:slots=4' "${pipe[@]}" -c 1000 -w x.pcapng --expect-loss 0
    ends 3 "NOT MET"
}

@test "an interface is watched while its host goes on using it" {
    [ "$(id -u)" -eq 0 ] || skip "not root: no namespaces"
    ns=nmdump$$
    ip netns add ${ns}a && ip netns add ${ns}b || skip "cannot make network namespaces here"
    for n in a b; do ip netns exec $ns$n sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'; done
    ip link add w0 netns ${ns}a type veth peer name w0 netns ${ns}b
    ip -n ${ns}a addr add 10.78.0.1/24 dev w0
    ip -n ${ns}b addr add 10.78.0.2/24 dev w0
    ip -n ${ns}a link set w0 up
    ip -n ${ns}b link set w0 up
    ip netns exec ${ns}a "$tool" -i netmap:w0/rt -T 15 -w x.pcapng >out 2>err &
    dump=$!
    for _ in $(seq 100); do
        grep -q "watches what" err && break
        sleep 0.05
    done
    if grep -q "tcx\|nf_tables\|/dev/net/tun\|act_" err; then skip "no host rings here: $(tail -1 err)"; fi
    grep -q "joined with the host's stack" err
    run ip netns exec ${ns}b ping -c 5 -i 0.1 -W 2 10.78.0.1
    ends 0 " 0% packet loss"
    kill -TERM $dump
    wait $dump
    grep -q " 0 dropped" out
    shark -r x.pcapng -Y icmp -T fields -e icmp.type -e frame.packet_flags_direction >fields
    [ "$(sort fields | uniq -c | tr -s ' ')" = "$(printf ' 5 0\t0x00000002\n 5 8\t0x00000001')" ]
    ip netns exec ${ns}b ping -c 1 -W 2 10.78.0.1
}

@test "what it does meanwhile: a line on stderr, an object, a row" {
    local pipe=(-i 'netmap:p{1/t' --feed 'netmap:p{1' --drain 'netmap:p}1' -w x.pcapng --for 0.5 --report 50)
    "$tool" "${pipe[@]}" --json >out 2>err
    json out 'd["type"] == "summary" and len(lines) >= 2 and lines[0]["type"] == "interval" and 0 < sum(l["packets"] for l in lines[:-1]) <= d["packets"]'
    grep -q "main_thread \[nm\] .*pps" err
    "$tool" "${pipe[@]}" --csv >out 2>err
    [ "$(head -n 1 out)" = "type,seconds,packets,bytes,pps,bps,avg_batch" ]
    grep -q '^interval,' out
    [[ $(tail -n 1 out) =~ ^summary,[0-9.]+,[1-9] ]]
    go "${pipe[@]}" --expect-pps '<1'
    ends 3 "NOT MET"
    go "${pipe[@]}" --expect-pps 1
    ends 0 "Expected packets per second >= 1"
    usage "choose one" -i null:x --json --csv
    usage "both want stdout" -i null:x --csv -w -
    usage "wants a value" --report
    usage '"abc"' -i null:x --report abc
    usage "out of range" -i null:x --report 0
    usage "too large" -i null:x --report 99999999999999999999999
    usage "wants a value" --expect-pps
    usage '"abc"' -i null:x --expect-pps abc
}
