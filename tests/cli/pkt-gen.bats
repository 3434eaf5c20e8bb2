#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# pkt-gen without privileges: on pipes and null ports.

load tool

setup() {
    tool=$NM_BIN/pkt-gen
    pipe="-i netmap:p{1 --peer netmap:p}1"
    cd "$BATS_TEST_TMPDIR"
}

@test "tx through a pipe loses nothing, and says three numbers" {
    go $pipe -f tx -n 200k
    ends 0
    says "Sent 200000 packets 12000000 bytes"
    says "Queued 200000, completed 200000, dropped 0"
    says "Peer received 200000 packets"
    says "netmap:p{1: pipe (the other end may be in another process)"
}

@test "rx, pong and null ports" {
    go $pipe -f rx -n 100k
    ends 0 "Received 100000 packets 6000000 bytes"
    go $pipe -f pong -n 10k
    ends 0 "Ponged 10000 packets"
    go -i null:x -f tx -n 1M
    ends 0 "completed 1000000"
}

@test "ping prints percentiles and writes a .hgrm file" {
    "$tool" $pipe -f ping -n 500 --hgrm h.hgrm --json --expect-loss 0 >out 2>err
    grep -q "p99.99" err
    json out 'd["pings"] == d["answered"] == d["latency_ns"]["count"] == 500 and d["lost"] == 0'
    json out '0 < d["latency_ns"]["min"] <= d["latency_ns"]["p50"] <= d["latency_ns"]["p99.9"] <= d["latency_ns"]["max"]'
    grep -q "Total count    =          500" h.hgrm
    [ "$(sed -n 3,\$p h.hgrm | grep -vc '^#')" -gt 1 ]
}

@test "IPv6, ranges, random addresses and sizes, fragments" {
    for more in "-6" "-d 10.0.0.1:1-10.0.0.9:5 -s 10.9.9.9" "-s [fd00::1]:5-[fd00::9]:7 -d fd00::2" "-z -Z" "-l 1500 -l 64" \
        "-l 9000" "-l 1500 -F 3" "-l 4000 -M 100" "-l 64 -F 64" "-4 -r" "-l 14" "-o 4" "-b 1"; do
        go $pipe -f tx -n 5000 $more
        ends 0 || { echo "$more: $output"; return 1; }
        says "completed 5000, dropped 0"
        says "Peer received 5000 packets"
    done
    go $pipe -f ping -6 -n 100
    ends 0 "Pings 100, answered 100"
}

@test "frames have right checksums" {
    "$tool" -i null -f tx -n 20 -X -l 121 -z -Z 2>dump >/dev/null
    "$tool" -i null -f tx -n 20 -X -6 -l 301 -l 62 -d '[fd00::1]:1-[fd00::9]:9' 2>>dump >/dev/null
    python3 - <<'PY'
import re
frames, now = [], None
for line in open("dump"):
    if line.startswith("tx "): now = bytearray(); frames.append(now)
    elif re.match(r" *\d+: ", line): now += bytes.fromhex(line.split(":", 1)[1][:48])
def total(b): return sum((b[i] << 8) + (b[i + 1] if i + 1 < len(b) else 0) for i in range(0, len(b), 2))
def ok(s):
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return s == 0xffff
assert len(frames) == 40, len(frames)
flows = set()
for f in frames:
    if f[12:14] == b"\x08\x00":
        assert ok(total(f[14:34])) and int.from_bytes(f[16:18], "big") == len(f) - 14
        addresses, udp = f[26:34], f[34:]
    else:
        assert f[12:14] == b"\x86\xdd" and int.from_bytes(f[18:20], "big") == len(f) - 54
        addresses, udp = f[22:54], f[54:]
    assert int.from_bytes(udp[4:6], "big") == len(udp)
    assert ok(total(addresses) + 17 + len(udp) + total(udp)), f.hex()
    flows.add(bytes(addresses + udp[:4]))
assert len(flows) > 28, len(flows)
PY
}

@test "-P replays a capture" {
    if ! "$tool" --version | grep -q "libpcap version"; then
        go -i null -f tx -P x.pcap
        ends 1 "built without libpcap"
        skip "pkt-gen was built without libpcap"
    fi
    python3 - <<'PY'
import struct
with open("x.pcap", "wb") as f:
    f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
    for n in (60, 1514, 100): f.write(struct.pack("<IIII", 0, 0, n, n) + bytes(n))
PY
    go $pipe -f tx -P x.pcap -n 300
    ends 0 "Sent 300 packets 167400 bytes"
    go $pipe -f tx -P /nowhere.pcap
    ends 1 "/nowhere.pcap"
    echo junk >junk.pcap
    go $pipe -f tx -P junk.pcap
    ends 1 "junk.pcap"
}

@test "several rings and threads" {
    go -i 'netmap:p{1' --peer 'netmap:p}1' -C 256,256,2,2 -p 2 -f tx -n 100001
    ends 0 "completed 100001" && says "2 tx rings of 256 slots"
    go $pipe -p 2 -f tx -n 10
    ends 1 "has 1 ring and each thread wants one"
    go $pipe -a 0 -c 1 -f tx -n 1000
    ends 0
    go $pipe -a 4000 -f tx -n 1000
    ends 1 "cannot run on CPU 4000"
}

@test "-R paces" {
    "$tool" $pipe -f tx -R 20k --time 1 --json >out 2>/dev/null
    json out '15000 < d["packets"] < 21500'
}

@test "rate lines have pkt-gen's layout" {
    go $pipe -f tx -R 50k --time 0.5 -T 100
    ends 0
    [[ $output =~ [0-9]{3}\.[0-9]{6}\ main_thread\ \[nm\]\ [0-9.]+\ Kpps\ \([0-9.]+\ Kpkts\ [0-9.]+\ Mbps\ in\ [0-9]+\ usec\)\ [0-9.]+\ avg_batch\ [0-9]+\ min_space ]]
    go $pipe -f tx -R 50k --time 0.3 -T 100 -N -A -B
    [[ $output =~ \[nm\]\ [0-9]+\ pps\ \[avg/std\ [0-9]+\ pps/[0-9]+\ pps\ over\ 2\] ]]
}

@test "--json and --csv parse" {
    "$tool" $pipe -f tx -R 10k --time 0.4 -T 100 --json >out 2>err
    json out 'd["type"] == "summary" and d["queued"] == d["completed"] == d["packets"] and sum(d["drops"].values()) == 0'
    json out 'len(lines) >= 3 and sum(l["packets"] for l in lines[:-1]) <= d["packets"] and lines[0]["type"] == "interval"'
    json out 'd["port"]["mode"] == "pipe" and d["peer_received"] == d["packets"]'
    "$tool" $pipe -f tx -n 1000 --csv >out 2>err
    [ "$(head -n 1 out)" = "type,seconds,packets,bytes,pps,bps,avg_batch" ]
    grep -q '^summary,[0-9.]*,1000,60000,' out
    usage "choose one" $pipe --json --csv
}

@test "expectations decide the exit status" {
    go $pipe -f tx -n 10k --expect-loss 0 --expect-pps '>1k'
    ends 0 "met"
    go $pipe -f tx -n 10k --expect-pps '<10'
    ends 3 "NOT MET"
    go $pipe -f tx -n 10k --expect-pps 1T --expect-loss 0.1%
    ends 3
}

@test "--require-mode fails in place of falling back" {
    go $pipe -f tx -n 10 --require-mode pipe
    ends 0
    go $pipe -f tx -n 10 --require-mode zero-copy
    ends 1 "opens in mode pipe, and --require-mode zero-copy was asked for"
    usage "is no mode" $pipe --require-mode fastest
}

@test "a pipe whose other end nobody opens is told, not waited for" {
    go -i 'netmap:p{1' -f tx
    ends 1 "add --peer 'netmap:p}1'"
    go -i 'netmap:p}7' -f rx --time 0.2
    ends 0 "add --peer 'netmap:p{7'"
    go -i 'netmap:p{1' -f rx -W
    ends 0 "Received 0"
}

@test "SIGINT and SIGTERM print the summary" {
    for signal in INT TERM; do
        interrupted $signal 0.4 "$tool" $pipe -f tx -R 1k --json
        json out 'd["type"] == "summary" and 0 < d["packets"] == d["completed"] < 2000'
        grep -q "^Sent" err
    done
}

@test "a reader of stdout that has gone ends the run with a sentence" {
    run bash -c "set -o pipefail; timeout 10 '$tool' -i null -f tx -R 1k -T 50 --json 2>err | head -n 1 >/dev/null"
    ends 1
    grep -q "cannot write to stdout: Broken pipe" err
    run bash -c "timeout 10 '$tool' -i null -f tx -n 10 --json >&- 2>err"
    ends 1
    grep -q "cannot write to stdout" err
}

@test "names that do not parse are usage errors, ports that are not there are failures" {
    usage 'did you mean "netmap:ens192"?' -i ens192
    usage "no port given" -f tx
    usage "is empty" -i ""
    usage "unknown prefix" -i foo:bar
    usage "does not say which pipe" -i 'netmap:p{'
    usage "unknown flag" -i 'netmap:p{1/q'
    usage "prefix" $pipe --peer q
    go -i netmap:nosuchport0 -f rx
    ends 1 "nosuchport0"
    go -i 'netmap:p{1-7' -f tx
    ends 1 "there is no ring 7"
    go -i 'netmap:p{1/R' -f tx
    ends 1 "has no tx ring"
}

@test "every option that wants a value says so" {
    for o in i f n l b d s D S a c p T w R P F M C H o; do
        usage "wants a value" $pipe -$o
    done
    for o in interface function count length burst dst src dst-mac src-mac cpu cpus threads report wait-link rate pcap frags \
        frag-size conf vnet-header options peer time require-mode expect-loss expect-pps hgrm; do
        usage "wants a value" $pipe --$o
    done
}

@test "values that are none, and values that are too large" {
    for o in n l b a c p T w R F M C H o -time -expect-loss -expect-pps; do
        usage '"abc"' $pipe -$o abc
        usage '""' $pipe -$o ''
        usage '"-1"' $pipe -$o -1
        usage '"99999999999999999999999"' $pipe -$o 99999999999999999999999
    done
    for o in n l b p; do usage '"1.5"' $pipe -$o 1.5; done
    usage "is no function" $pipe -f fly
    usage "suffix" $pipe -n 10q
    usage "out of range: 14 to 16384" $pipe -l 13
    usage "out of range: 1 to 64" $pipe -F 65
    usage "neither an IPv4 nor an IPv6" $pipe -d 10.0.0
    usage '"70000" is out of range' $pipe -d 10.0.0.1:70000
    usage "ends before it begins" $pipe -s 10.0.0.9-10.0.0.1
    usage "one IP version to the other" $pipe -s 10.0.0.9-fd00::1
    usage "has a '[' and no ']'" $pipe -s '[fd00::1'
    usage "contradict" $pipe -4 -d fd00::1
    usage "is not a MAC address" $pipe -D 11:22:33:44:55
    usage "is not a MAC address" $pipe -S 11:22:33:44:55:gg
    usage "is no length of a virtio-net header" $pipe -H 5
    usage "more than four numbers" $pipe -C 1,2,3,4,5
    usage "a ping carries a number and a time" $pipe -f ping -l 40
    usage "is no option" $pipe -Q
    usage "is no option" $pipe --quickly
    usage "takes no value" $pipe --json=3
    usage "stands alone" $pipe rx
}

@test "letters that can do nothing here say so" {
    for more in -I "-H 12" "-o 1" "-o 16" "-o 32" "-o 128"; do
        go $pipe -f tx -n 10 $more
        ends 0 "note: ${more%% *}"
    done
    go $pipe -f rx -n 10 -R 5
    says "note: -R is for sending"
    go $pipe -f rx -n 10 -P x -F 2 -M 100 -r
    says "note: -P is for -f tx" && says "note: -F is" && says "note: -M is" && says "note: -r is"
}

@test "every letter of netmap's pkt-gen is in the help, and has a long name" {
    go --help
    ends 0
    for o in 4 6 a f F N n i I l d s D S b c o p T w W v R X C H r P z Z A h B M; do
        grep -qE "^  -$o, --[a-z0-9-]+" <<<"$output" || { echo "no -$o"; return 1; }
    done
    [ "$(go -h; echo "$output")" = "$output" ]
    go --version
    ends 0 "pipes" && says "nm "
}
