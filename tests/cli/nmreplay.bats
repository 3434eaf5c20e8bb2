#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# nmreplay: captures of all kinds in, the same frames out; and recording.

load tool

setup() {
    tool=$NM_BIN/nmreplay
    captures=$BATS_TEST_DIRNAME/captures.py
    cd "$BATS_TEST_TMPDIR"
}

teardown() {
    end_jobs
    end_namespaces
}

need_pcap() { ! "$tool" --version | grep -q "no libpcap" || skip "built without libpcap"; }
make() { python3 "$captures" make "$@"; }
same() { python3 "$captures" same "$1" "$2"; }
larger() { [ "$(wc -c <"$1")" -gt "$2" ]; }
frames() { python3 "$captures" frames "$1"; }

# recording FILE PORT OPTIONS...: a recorder in the background, $recorder; returns when its port is open.
recording() {
    local file=$1 port=$2
    shift 2
    timeout -s INT 30 "$tool" --record "$file" -i "$port" "$@" --json >rec.out 2>rec.err 3>&- &
    recorder=$!
    jobs_of_test+=($recorder)
    soon test -s "$file" || {
        cat rec.err
        return 1
    }
}

@test "usage errors have a sentence and status 2" {
    usage "nothing to do"
    usage "no port given" -f x.pcap
    usage "no port given" --record x.pcap
    usage "choose one" -f x.pcap --record y.pcap -i null:x
    usage "stands alone" x.pcap
    usage "no option of this program" --frob
    usage "no option of this program" -x
    usage "was given before" -f a -f b
    usage "was given before" -i null:a -i null:b
    usage "is no file" -f ''
    usage "is no file" --record ''
    usage "choose one" -f x -i null:x --json --csv
    usage "choose one" -f x -i null:x -B 1M --speed 2
    usage "choose one" -f x -i null:x -R 1M --speed 2
    usage "no time to be delayed from" -f x -i null:x --speed 0 -D 1ms
    usage "never late" -f x -i null:x -R 0 --expect-lateness 1ms
    usage "read once only" -f - -i null:x --loop 2
    usage "both want stdout" --record - -i null:x --json
    usage "-W is for --record" -f x -i null:x -W
    local o
    for o in -B1M -D1ms -L0.1 --speed=2 -R5 --loop=2 --seed=1 --expect-lateness=1s --hgrm=x; do
        usage "for replaying" --record x -i null:x $o
    done
    [ ! -e x ]
}

@test "each option without its value, with nonsense, and with too much" {
    local o
    for o in -f -i -B -D -L -C -b -w --speed -R --loop --seed --read-ahead --record -n --time --report --peer --require-mode --expect-loss \
        --expect-pps --expect-lateness --hgrm; do
        usage "wants a value" $o
    done
    for o in -B -D -L -C -b -w --speed -R --loop --seed --read-ahead -n --time --report --require-mode --expect-loss --expect-pps \
        --expect-lateness; do
        usage "$o" $o frob
        usage "$o" $o ''
        usage "$o" $o -1
    done
    for o in -i --peer; do usage "$o" $o 'netmap:x/q'; done
    local huge=99999999999999999999999
    for o in -B -D -C -b -w --speed -R --loop --seed --read-ahead -n --time --report --expect-loss --expect-pps --expect-lateness; do
        usage "$o" $o $huge
    done
    usage "between 0 and 1" -L 1.5
    usage "between 0 and 1" -L plr,101%
    usage "is no loss" -L burst,0.1
    usage "is no bandwidth" -B foo,1M
    usage "at most 1000" -B real,0
    usage "is no delay" -D gauss,1ms,2ms
    usage "above its maximum" -D uniform,2ms,1ms
    usage "has a unit" -D 5h
    usage "more than four" -C 0,1,2,3,4
    usage "one, two or four" -C 0,1,2
    usage "out of range" -b 0
    usage "out of range" -b 8193
    usage "out of range" --read-ahead 1M
    for o in -v -W --realtime --json --csv --help --version; do go $o=1; [ "$status" -eq 2 ]; done
}

@test "help and version" {
    go --help
    ends 0 "--record FILE"
    go --version
    ends 0 "ports: "
}

@test "captures of every kind arrive frame for frame" {
    need_pcap
    make want.pcap ns 2000 1000
    local kind
    for kind in us ns us-swapped ns-swapped pcapng; do
        make $kind.cap $kind 2000 1000
        recording got.pcap 'netmap:p}1' -n 2000
        go -f $kind.cap -i 'netmap:p{1' --expect-loss 0
        ends 0 "Read 2000 frames"
        wait $recorder
        same want.pcap got.pcap
        json rec.out 'd["packets"] == 2000 and d["dropped"] == 0 and d["function"] == "record"'
        rm got.pcap
    done
}

@test "standard input, as it comes" {
    need_pcap
    make x.pcap us 100 1000
    # The first half is sent, and recorded, while the second has not been written.
    recording got.pcap 'netmap:p}1'
    run timeout 20 python3 - "$tool" <<'PY'
import os, subprocess, sys, time
data = open("x.pcap", "rb").read()
half = 24 + 50 * 76
p = subprocess.Popen([sys.argv[1], "-f", "-", "-i", "netmap:p{1", "--json"], stdin=subprocess.PIPE, stdout=open("out", "w"), stderr=subprocess.DEVNULL)
p.stdin.write(data[:half])
p.stdin.flush()
end = time.time() + 15
while os.path.getsize("got.pcap") < half and time.time() < end: time.sleep(0.02)
assert os.path.getsize("got.pcap") == half, os.path.getsize("got.pcap")
p.stdin.write(data[half:])
p.stdin.close()
sys.exit(p.wait(timeout=10))
PY
    ends 0
    json out 'd["packets"] == 100'
    soon larger got.pcap $((23 + 100 * 76))
    kill -INT $(pgrep -P $recorder)
    wait $recorder
}

@test "standard input that says nothing can be interrupted" {
    need_pcap
    make x.pcap us 10 1000
    run timeout 20 python3 - "$tool" <<'PY'
import signal, subprocess, sys, time
p = subprocess.Popen([sys.argv[1], "-f", "-", "-i", "null:x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
p.stdin.write(open("x.pcap", "rb").read())
p.stdin.flush()
line = b""
while b"main_thread" not in line:      # it reports, so it is at work
    line = p.stderr.readline()
    assert line
p.send_signal(signal.SIGINT)
out, err = p.communicate(timeout=10)
assert p.returncode == 0 and b"Sent 10 packets" in out, (p.returncode, out, err)
PY
    ends 0
}

@test "times are kept, or scaled: never early" {
    need_pcap
    make x.pcap ns 101 3000000
    recording got.pcap 'netmap:p}1' -n 101
    go -f x.pcap -i 'netmap:p{1'
    ends 0 "Late in us"
    wait $recorder
    # Frame i is not recorded before i * 3 ms after the first was sent; the first may have been recorded late.
    frames got.pcap >got
    awk 'NR == 1 { first = $1 } { if ($1 < first) exit 1 } END { exit NR != 101 }' got
    run bash -c "timeout 20 '$tool' -f x.pcap -i null:x --json --hgrm x.hgrm >out 2>err"
    ends 0
    json out 'd["seconds"] >= 0.3 and d["lateness_ns"]["count"] == 101 and d["lateness_ns"]["p50"] <= d["lateness_ns"]["p99"] <= d["lateness_ns"]["max"]'
    grep -q "Total count    =          101" x.hgrm
    timeout 20 "$tool" -f x.pcap -i null:x --json --speed 3 >out 2>err
    json out '0.1 <= d["seconds"]'
    timeout 20 "$tool" -f x.pcap -i null:x --json -B real,0.5 >out 2>err
    json out '0.6 <= d["seconds"]'
    timeout 20 "$tool" -f x.pcap -i null:x --json -D const,200ms >out 2>err
    json out '0.5 <= d["seconds"]'
    timeout 20 "$tool" -f x.pcap -i null:x --json --speed 0 >out 2>err
    json out 'd["packets"] == 101 and "lateness_ns" not in d'
}

@test "a rate in place of the times" {
    need_pcap
    make x.pcap us 1000 0
    timeout 20 "$tool" -f x.pcap -i null:x --json -B 1M >out 2>err
    json out '0.48 <= d["seconds"] and d["bps"] <= 1e6'
    timeout 20 "$tool" -f x.pcap -i null:x --json -B ether,2M >out 2>err
    json out '0.336 <= d["seconds"]'
    timeout 20 "$tool" -f x.pcap -i null:x --json -R 5k >out 2>err
    json out '0.2 <= d["seconds"]'
    timeout 20 "$tool" -f x.pcap -i null:x --json -B 0 >out 2>err
    json out 'd["packets"] == 1000 and "lateness_ns" not in d'
}

@test "the same seed loses the same frames" {
    need_pcap
    make x.pcap us 1000 1000
    local n
    for n in 1 2 3; do
        local seed=1
        [ $n -eq 3 ] && seed=2
        recording got$n.pcap 'netmap:p}1'
        go -f x.pcap -i 'netmap:p{1' -L plr,0.3 -D exp,0,10us --seed $seed --expect-loss 0
        ends 0 "lost by -L"
        # All that was sent is taken before the recorder is asked to end.
        local want
        want=$(sed -n 's/^Queued \([0-9]*\),.*/\1/p' <<<"$output")
        soon larger got$n.pcap $((23 + want * 76))
        kill -INT $(pgrep -P $recorder)
        wait $recorder
        [ "$want" -gt 600 ] && [ "$want" -lt 800 ]
        [ "$(frames got$n.pcap | wc -l)" -eq "$want" ]
    done
    same got1.pcap got2.pcap
    run same got1.pcap got3.pcap
    [ "$status" -ne 0 ]
}

@test "over and over, so many, so long" {
    need_pcap
    make x.pcap us 100 1000
    timeout 20 "$tool" -f x.pcap -i null:x --loop 7 --json >out 2>err
    json out 'd["packets"] == 700 and d["passes"] == 7 and d["seconds"] >= 7 * 99e-6'
    # From memory, and from the file again.
    make long.pcap us 40000 0
    local file
    for file in x long; do
        recording got.pcap 'netmap:p}1'
        go -f $file.pcap -i 'netmap:p{1' --loop 3 --read-ahead 2M --speed 0 --expect-loss 0
        ends 0 "in 3 passes"
        soon larger got.pcap $(($(wc -c <$file.pcap) * 3 - 49))
        kill -INT $(pgrep -P $recorder)
        wait $recorder
        python3 "$captures" repeated $file.pcap 3 got.pcap
        rm got.pcap
    done
    timeout 20 "$tool" -f x.pcap -i null:x --loop 0 -n 12345 --speed 0 --json >out 2>err
    json out 'd["packets"] == 12345 and d["read"] == d["packets"] + d["unsent"]'
    timeout 20 "$tool" -f x.pcap -i null:x --loop 0 --time 0.3 --speed 0 --json >out 2>err
    json out 'd["packets"] > 0 and 0.3 <= d["seconds"] and d["read"] == d["packets"] + d["unsent"]'
    timeout 30 "$tool" -f x.pcap -i null:x --loop 0 --csv --report 100 >out 2>err 3>&- &
    local replay=$!
    jobs_of_test+=($replay)
    soon grep -q '^interval,' out
    kill -INT $(pgrep -P $replay)
    wait $replay
    tail -1 out | grep -q '^summary,'
}

@test "a pipe is read once; what cannot be sent is not read for ever" {
    need_pcap
    make x.pcap us 10 0
    mkfifo fifo
    for loops in 2 0; do
        timeout 20 cat x.pcap >fifo 3>&- &
        run timeout -s KILL 20 "$tool" -f fifo -i null:x --loop $loops
        ends 2 "can be read once only"
    done
    timeout 20 cat x.pcap >fifo 3>&- &
    go -f fifo -i null:x --loop 1
    ends 0 "Sent 10 packets"
    python3 - <<'PY'
import struct
open("short.pcap", "wb").write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1) + 3 * (struct.pack("<IIII", 0, 0, 10, 10) + bytes(10)))
PY
    go -f short.pcap -i null:x --loop 0
    ends 0 "3 too short"
}

@test "files that are none, or end in the middle" {
    need_pcap
    make x.pcap us 100 1000
    go -f nosuch.pcap -i null:x
    ends 1 "No such file"
    : >empty
    go -f empty -i null:x
    ends 1 "cannot read \"empty\""
    echo "this is no capture, however long one reads in it" >text
    go -f text -i null:x
    ends 1 "cannot read \"text\""
    go -f . -i null:x
    ends 1 "directory"
    head -c 24 x.pcap >none.pcap
    go -f none.pcap -i null:x
    ends 1 "has no frames"
    head -c $((24 + 40 * 76 + 30)) x.pcap >cut.pcap
    go -f cut.pcap -i null:x
    ends 1 "truncated"
    says "Sent 40 packets"
    head -c $((24 + 40 * 76 + 7)) x.pcap >cut.pcap
    go -f cut.pcap -i null:x
    ends 1 "truncated"
    says "Sent 40 packets"
    make x.pcapng pcapng 100 1000
    head -c 4000 x.pcapng >cut.pcapng
    go -f cut.pcapng -i null:x
    ends 1 "truncated"
    python3 -c 'import struct; open("raw.pcap", "wb").write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))'
    go -f raw.pcap -i null:x
    ends 1 "no Ethernet frames"
}

@test "frames of all lengths: in pieces, too long, too short, cut off when they were captured" {
    need_pcap
    make big.pcap ns 50 1000 9000
    recording got.pcap 'netmap:p}1' -n 50
    go -f big.pcap -i 'netmap:p{1' --expect-loss 0
    ends 0 "Read 50 frames"
    wait $recorder
    same big.pcap got.pcap
    rm got.pcap
    make huge.pcap us 3 1000 200000
    go -f huge.pcap -i null:x --expect-loss 0
    ends 3 "3 too long for the port"
    make tiny.pcap us 3 1000 13
    go -f tiny.pcap -i null:x --expect-loss 1
    ends 3 "3 too short"
    make snapped.pcap us 10 1000 60 100
    recording got.pcap 'netmap:p}1' -n 10
    go -f snapped.pcap -i 'netmap:p{1'
    ends 0 "10 filled up with zeros"
    wait $recorder
    frames got.pcap | awk '$2 != 100 || $3 != 100 { exit 1 }'
}

@test "expectations" {
    need_pcap
    make x.pcap us 100 1000
    go -f x.pcap -i 'netmap:p{1' --peer 'netmap:p}1' --expect-loss 0 --expect-pps '>10' --expect-lateness 20s
    ends 0 "Peer received 100 packets"
    go -f x.pcap -i vale1:alone --expect-loss 0
    ends 3 "The switch dropped 100 of them (100 no destination)"
    go -f x.pcap -i null:x --expect-pps '>1T'
    ends 3 "NOT MET"
    go -f x.pcap -i null:x --expect-lateness 0
    ends 3 "NOT MET"
    go -f x.pcap -i null:x --require-mode pipe
    ends 1 "--require-mode"
    go -f x.pcap -i null:x -C 4095
    ends 1 "-C: cannot run on CPU 4095"
    go -f x.pcap -i null:x -C 0,4095,0,0  # of the thread at the file
    ends 1 "-C: cannot run on CPU 4095"
    go --record y.pcap -i null:x -C 0,4095,0,0
    ends 1 "-C: cannot run on CPU 4095"
    go -f x.pcap -i null:x -v
    ends 0 "1 MiB of 62 were in use"
    go -f x.pcap -i null:x --realtime
    if [ "$status" -ne 0 ]; then ends 1 "--realtime: not permitted here"; fi
    go --record y.pcap -i null:x -C 4095
    ends 1 "-C: cannot run on CPU 4095"
}

@test "a pipe without another end" {
    need_pcap
    make x.pcap us 5000 0
    go -f x.pcap -i 'netmap:p{1' --speed 0
    ends 1 "--peer 'netmap:p}1'"
}

@test "a recording ends by count, by time, when it is quiet, and at a signal" {
    go --record x.pcap -i 'netmap:p{1' --peer 'netmap:p}1' -n 1000
    ends 0 "Recorded 1000 packets"
    [ "$(frames x.pcap | wc -l)" -eq 1000 ]
    go --record x.pcap -i 'netmap:p{1' --time 0.2
    ends 0 "Recorded 0 packets"
    [ "$(wc -c <x.pcap)" -eq 24 ]
    go --record x.pcap -i 'netmap:p{1' -W
    ends 0 "Recorded 0 packets"
    need_pcap
    make x.pcap us 10 0
    timeout 20 "$tool" -f x.pcap -i 'netmap:p}1' --loop 0 -R 2k >feed.out 2>feed.err 3>&- &
    jobs_of_test+=($!)
    recording y.pcap 'netmap:p{1'
    soon larger y.pcap 24
    kill -TERM $(pgrep -P $recorder)
    wait $recorder
    json rec.out 'd["function"] == "record" and d["packets"] > 0'
    [ "$(frames y.pcap | wc -l)" -eq "$(python3 -c 'import json; print([json.loads(l) for l in open("rec.out")][-1]["packets"])')" ]
}

@test "a recording has the time of day, and others read it" {
    local before
    before=$(date +%s)
    go --record x.pcap -i 'netmap:p{1' --peer 'netmap:p}1' -n 200
    ends 0
    frames x.pcap | awk -v a="$before" '$1 < a * 1000000000 || $1 < last { exit 1 } { last = $1 }'
    command -v tshark >/dev/null || skip "tshark is not installed"
    HOME=$BATS_TEST_TMPDIR timeout 20 tshark -r x.pcap -Y 'udp.port == 1234' -T fields -e frame.len 2>/dev/null | grep -c '^60$' | grep -qx 200
}

@test "who was to read has gone; the disk is full" {
    run bash -c "timeout 20 '$tool' --record - -i 'netmap:p{1' --peer 'netmap:p}1' 2>err | head -c 100 >/dev/null; echo \${PIPESTATUS[0]}"
    says 1
    grep -q "who was to read it has gone" err
    go --record /dev/full -i 'netmap:p{1' --peer 'netmap:p}1'
    ends 1 "No space left"
    go --record /nosuch/x.pcap -i null:x
    ends 1 "No such file"
    # A disk that is full later on.
    if [ "$(id -u)" -eq 0 ] && mkdir small && unshare -m true 2>/dev/null; then
        run unshare -m sh -c "mount -t tmpfs -o size=256k none small && timeout 20 '$tool' --record small/x.pcap -i 'netmap:p{1' --peer 'netmap:p}1'"
        ends 1 "No space left"
    fi
    need_pcap
    make x.pcap us 100 1000
    run bash -c "timeout 20 '$tool' -f x.pcap -i null:x --json 2>&1 >/dev/full"
    ends 1 "No space left"
    run bash -c "timeout 20 '$tool' -f x.pcap --loop 0 -i null:x --csv --report 50 2>err | head -c 10 >/dev/null; echo \${PIPESTATUS[0]}"
    says 1
    go -f x.pcap -i null:x --hgrm /dev/full
    ends 1 "--hgrm"
}

@test "two gigabytes are never in memory" {
    need_pcap
    # Most of it is a hole on the disk: a page for each frame of 128 KiB.
    python3 - <<'PY' || skip "no room here for a sparse file of 2 GB"
import struct
size = 131072
count = (2 << 30) // size + 100
with open("big.pcap", "wb") as out:
    out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1))
    for i in range(count):
        out.seek(24 + i * (size + 16))
        out.write(struct.pack("<IIII", i, 0, size, size) + bytes.fromhex("ffffffffffff02000000000188b5"))
    out.truncate(24 + count * (size + 16))
PY
    run timeout 60 python3 - "$tool" <<'PY'
import json, resource, subprocess, sys
out = subprocess.run([sys.argv[1], "-f", "big.pcap", "-i", "null:x", "--speed", "0", "--read-ahead", "16M", "--json"], check=True, stdout=subprocess.PIPE,
                     stderr=subprocess.DEVNULL).stdout
d = json.loads(out.splitlines()[-1])
assert d["packets"] == (2 << 30) // 131072 + 100 and d["bytes"] > 2 << 30, d
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
assert peak < 200_000, peak
print(peak)
PY
    ends 0
    rm big.pcap
}

@test "over a pair of kernel interfaces" {
    need_pcap
    [ "$(id -u)" -eq 0 ] || skip "not root: no namespaces"
    namespaces nmreplay w || skip "cannot make network namespaces here"
    in_ns w sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
    ip -n ${ns}w link add r0 type veth peer name r1
    ip -n ${ns}w link set r0 up
    ip -n ${ns}w link set r1 up
    make x.pcap ns 2000 20000
    in_ns w timeout 20 "$tool" --record got.pcap -i netmap:r1 -n 2000 >out 2>err 3>&- &
    recorder=$!
    jobs_of_test+=($recorder)
    soon test -s got.pcap
    run in_ns w timeout 20 "$tool" -f x.pcap -i netmap:r0 --expect-loss 0
    ends 0 "Read 2000 frames"
    wait $recorder
    same x.pcap got.pcap
}
