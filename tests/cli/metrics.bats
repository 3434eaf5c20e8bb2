#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# OpenMetrics text, from hosts and from tools, into files and over HTTP; and clients of the latter that mean no good.

load tool

setup() {
    tool=$NM_BIN/nmctl
    cd "$BATS_TEST_TMPDIR"
}
teardown() {
    end_jobs
    end_namespaces
    end_nobody
}
# metrics FILE [EXPRESSION]: it is OpenMetrics text, and the expression holds.
metrics() { python3 "$BATS_TEST_DIRNAME/openmetrics.py" "$@"; }
# host [NAME]: a host that stays. Its ports are attached by valectl, which needs no privileges for null ports.
host() {
    in_background host timeout 60 "$NM_BIN/nm-host" --keep "${1:-vale1}"
    soon eval '"$NM_BIN/valectl" -l '"${1:-vale1}"' >/dev/null 2>&1'
}
# frames N: N of them go from vale1:b to vale1:a, and some are dropped there or not.
frames() {
    in_background rx timeout 20 "$NM_BIN/pkt-gen" -i vale1:a -f rx
    soon eval '"$NM_BIN/valectl" -l | grep -q vale1:a'
    timeout 20 "$NM_BIN/pkt-gen" -i vale1:b -f tx -n "$1" >/dev/null 2>&1
}
# A program that prints what an HTTP client sees: request FILE, host:port.
http() {
    python3 - "$@" <<'PY'
import socket, sys
request = open(sys.argv[1], "rb").read()
s = socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=10)
try:
    s.sendall(request)
    if len(sys.argv) > 4: s.shutdown(socket.SHUT_WR)
    answer = b""
    while True:
        got = s.recv(65536)
        if not got: break
        answer += got
except ConnectionError: pass
sys.stdout.buffer.write(answer)
PY
}
listening() {
    in_background http timeout 60 "$tool" metrics --listen "${1:-0}"
    soon grep -q /metrics http.err
    port=$(sed -n 's/.*:\([0-9]*\)\/metrics/\1/p' http.err)
}

@test "the checker finds what is wrong" {
    python3 "$BATS_TEST_DIRNAME/openmetrics.py" --self-test
}

@test "nobody is there" {
    timeout 10 "$tool" metrics >out
    metrics out 'total("nm_build", tool="nmctl") == 1 and "nm_port_frames_total" not in m'
}

@test "bad command lines" {
    usage "stands alone" metrics vale1
    usage "--lsten is no option" metrics --lsten 1
    usage "wants a value" metrics --listen
    usage "wants a value" metrics -o
    usage "the name of the file is empty" metrics -o ''
    usage "has no port" metrics --listen ''
    usage "has no port" metrics --listen 127.0.0.1:
    usage "has no port" metrics --listen abc
    usage "out of range" metrics --listen 65536
    usage "too large" metrics --listen 99999999999999999999999
    usage "numbers, no names" metrics --listen localhost:9100
    usage "written [::1]:9100" metrics --listen ::1:9100
    usage "one or the other" metrics --listen 0 -o x
    usage "is for --listen" metrics --time 1
    usage "not a number" metrics --listen 0 --time x
    go metrics --help
    ends 0 "--listen"
    go metrics --listen 192.0.2.77:9100
    ends 1 "cannot listen there"
}

@test "ports of a switch: frames, bytes, drops by cause, each once" {
    host
    frames 5000
    timeout 10 "$tool" metrics >out
    metrics out 'total("nm_switch_accepted_frames_total", switch="vale1") >= 5000'
    metrics out 'total("nm_switch_accepted_frames_total") == total("nm_switch_delivered_frames_total") + total("nm_switch_dropped_frames_total")'
    timeout 10 "$NM_BIN/valectl" -l vale1 --metrics - >one
    metrics one 'total("nm_host_ports", host="vale1") >= 0 and total("nm_build", tool="valectl") == 1'
}

@test "attached devices and pipes" {
    host
    "$NM_BIN/valectl" -a vale1:null:x
    timeout 10 "$tool" metrics -o out
    metrics out 'total("nm_port_mode", port="vale1:null:x", mode="null") == 1'
    metrics out 'total("nm_port_drops_total", port="vale1:null:x") == 0 and len([k for k in m["nm_port_drops_total"] if ("port", "vale1:null:x") in k]) == 14'
    metrics out '("cause", "no_destination") in set(sum(m["nm_device_drops_total"], ()))'
    in_background pipe timeout 20 "$NM_BIN/pkt-gen" -i 'netmap:p{1' -f rx
    soon eval '"$NM_BIN/valectl" -l | grep -q pipe'
    timeout 10 "$tool" metrics >out
    metrics out 'total("nm_pipe_ends_open") == 1'
}

@test "over HTTP" {
    host
    "$NM_BIN/valectl" -a vale1:null:x
    listening
    printf 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n' >get
    http get 127.0.0.1 $port >answer
    grep -q '^HTTP/1.1 200 OK' answer
    grep -q '^Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8' answer
    sed '1,/^\r$/d' answer >body
    metrics body 'total("nm_port_mode", port="vale1:null:x") == 1'
    [ "$(sed -n 's/^Content-Length: \([0-9]*\).*/\1/p' answer)" -eq "$(wc -c <body)" ]
    # A client that says at once that this is all.
    http get 127.0.0.1 $port half >answer
    grep -q '^# EOF' answer
    # It is for this machine only.
    run sh -c "ss -Hltn 'sport = :$port' | awk '{ print \$4 }'"
    [ "$output" = "127.0.0.1:$port" ]
    # And ends when it is told to, with its address free again.
    kill -INT $pid
    wait $pid
    go metrics --listen $port --time 0.1
    ends 0
}

@test "IPv6, and an address in use" {
    [ -e /proc/net/if_inet6 ] && grep -q ' lo$' /proc/net/if_inet6 || skip "no IPv6 on the loopback here"
    listening '[::1]:0'
    printf 'GET /metrics HTTP/1.0\n\n' >get
    http get ::1 $port | grep -q '^# EOF'
    go metrics --listen "[::1]:$port"
    ends 1 "another program does"
}

@test "what is asked otherwise" {
    listening
    python3 - $port <<'PY'
import os, socket, sys
def ask(request, half=False):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
    answer = b""
    try:
        s.sendall(request)
        if half: s.shutdown(socket.SHUT_WR)
        while got := s.recv(65536): answer += got
    except ConnectionError: pass
    return answer
def status(*a): return ask(*a).split(b"\r\n")[0].split(b" ")[1:2]
for request, wanted in [
    (b"GET / HTTP/1.1\r\n\r\n", 200), (b"GET /metrics?x=y HTTP/1.1\r\n\r\n", 200), (b"GET /metrics HTTP/1.0\n\n", 200),
    (b"GET /etc/passwd HTTP/1.1\r\n\r\n", 404), (b"GET /metrics/../x HTTP/1.1\r\n\r\n", 404), (b"GET /metricsx HTTP/1.1\r\n\r\n", 404),
    (b"POST /metrics HTTP/1.1\r\n\r\n", 405), (b"GET /metrics HTTP/2.0\r\n\r\n", 505), (b"GET /metrics\r\n\r\n", 400),
    (b"GET metrics HTTP/1.1\r\n\r\n", 400), (b"rubbish\r\n\r\n", 400), (b"\r\n\r\n", 400), (b"GET  HTTP/1.1\r\n\r\n", 400),
    (b"GET /me\0trics HTTP/1.1\r\n\r\n", 404), (b"GET /metrics HTTP/1.1\r\n" + b"a" * 20000, 431),
]:
    got = status(request)
    assert got == [str(wanted).encode()], (request[:60], got)
head = ask(b"HEAD /metrics HTTP/1.1\r\n\r\n")
assert head.startswith(b"HTTP/1.1 200") and b"EOF" not in head and int(head.split(b"Content-Length: ")[1].split(b"\r")[0]) > 10
ask(os.urandom(100000), True)
assert ask(b"GET /metrics HTTP/1.1\r\n\r\n").endswith(b"# EOF\n")
PY
}

@test "clients that say nothing, and many of them, keep nobody from asking" {
    listening
    python3 - $port <<'PY'
import socket, sys
port = int(sys.argv[1])
def ask():
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    answer = b""
    while got := s.recv(65536): answer += got
    assert answer.endswith(b"# EOF\n"), answer
silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(100)]
for s in silent[::2]: 
    try: s.sendall(b"GET /metr")
    except ConnectionError: pass
ask()
# Who asks and does not read.
deaf = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(10)]
for s in deaf: s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
for _ in range(5): ask()
PY
    [ "$(ls /proc/$(pgrep -P $pid)/fd | wc -l)" -lt 60 ]
}

@test "clients that take all descriptors keep nobody from asking, and nothing busy" {
    host
    in_background http sh -c 'ulimit -n 20; exec timeout 60 "$0" metrics --listen 0' "$tool"
    soon grep -q /metrics http.err
    python3 - "$(sed -n 's/.*:\([0-9]*\)\/metrics/\1/p' http.err)" "$(pgrep -P $pid)" <<'PY'
import os, socket, sys, time
port, pid = int(sys.argv[1]), sys.argv[2]
def cpu():
    f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")
silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(60)]
before = cpu()
time.sleep(1.5)
assert cpu() - before < 0.5, cpu() - before
s = socket.create_connection(("127.0.0.1", port), timeout=10)
s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
answer = b""
while got := s.recv(65536): answer += got
assert b'nm_host_ports{host="vale1"' in answer and answer.endswith(b"# EOF\n"), answer
PY
}

@test "a link that somebody else has laid is not followed" {
    [ "$(id -u)" -eq 0 ] || skip "takes a second user"
    mkdir -m 1777 all
    echo mine >victim
    ln -s "$PWD/victim" all/m.prom
    chown -h 65534 all/m.prom
    go metrics -o all/m.prom
    ends 1 "is a link of user 65534"
    [ "$(cat victim)" = mine ]
    # Nor is one in the place of the file that is to take the name.
    rm all/m.prom
    ln -s "$PWD/victim" all/.m.prom.new
    chown -h 65534 all/.m.prom.new
    go metrics -o all/m.prom
    ends 0
    [ "$(cat victim)" = mine ] && [ ! -L all/m.prom ]
    metrics all/m.prom
    # One's own is.
    ln -sf "$PWD/victim" all/m.prom
    go metrics -o all/m.prom
    ends 0
    metrics victim
}

@test "into a file: whole or not at all" {
    host
    timeout 10 "$tool" metrics -o m.prom
    metrics m.prom
    [ "$(ls -A . | grep -c new)" -eq 0 ]
    # A name that is a link to a file: the file, and the link stays.
    ln -s m.prom link.prom
    timeout 10 "$tool" metrics -o link.prom
    [ -L link.prom ]
    go metrics -o no/such/m.prom
    ends 1 "cannot write"
    go metrics -o /dev/full
    ends 1 "No space left"
    [ -c /dev/full ]
    go metrics -o .
    ends 1 "cannot write"
    run timeout 10 sh -c '"$0" metrics >/dev/full' "$tool"
    ends 1 "No space left"
}

@test "as an ordinary user" {
    needs_nobody
    run as_nobody "$tool" metrics -o "$nobody/m.prom"
    cp "$nobody/m.prom" .
    ends 0
    metrics m.prom
}

@test "tools: what they counted, in a file, at the end on stdout, and while they run" {
    tool=$NM_BIN/pkt-gen
    timeout 20 "$tool" -i 'netmap:p{1' --peer 'netmap:p}1' -f tx -n 1000 --metrics - >out 2>err
    metrics out 'total("nm_port_frames_total", tool="pkt-gen", port="netmap:p{1", direction="tx") == 1000 and total("nm_port_drops_total") == 0'
    grep -q "Sent 1000 packets" err
    timeout 20 "$tool" -i null:x -f tx -n 1000 --metrics m.prom >/dev/null 2>&1
    metrics m.prom 'total("nm_port_bytes_total", port="null:x") == 60000 and total("nm_port_mode", mode="null") == 1'
    in_background tx timeout 20 "$tool" -i null:x -f tx -R 1000 -T 50 --metrics live.prom
    growing() { [ -s live.prom ] && metrics live.prom 'total("nm_port_frames_total") > 0'; }
    soon growing
    tool=$NM_BIN/switch
    timeout 20 "$tool" -i null:x -i null:y --time 0.2 --metrics - >out 2>err
    metrics out 'total("nm_port_mode", tool="switch") == 2 and total("nm_switch_accepted_frames_total", switch="vale0") == 0'
    grep -q conserved err
    tool=$NM_BIN/nm-dump
    timeout 20 "$tool" -i 'netmap:p{1/t' --feed 'netmap:p{1' --drain 'netmap:p}1' -c 100 -w x.pcapng --metrics - >out 2>err
    metrics out 'total("nm_port_frames_total", tool="nm-dump", direction="rx") >= 100'
    tool=$NM_BIN/bridge
    timeout 20 "$tool" -i 'netmap:a{1' -i 'netmap:b{1' --feed 'netmap:a}1' --drain 'netmap:b}1' -n 1000 --metrics - >out 2>err
    metrics out 'total("nm_port_frames_total", tool="bridge", port="netmap:a{1", direction="rx") >= 1000 and total("nm_port_mode", tool="bridge") == 2'
    tool=$NM_BIN/lb
    timeout 20 "$tool" -i 'netmap:in{1' -p out:2 --feed 'netmap:in}1' --drain 'netmap:out}0' --drain 'netmap:out}1' --time 0.5 --metrics - >out 2>err
    metrics out '0 < total("nm_lb_forwarded_frames_total") + total("nm_lb_dropped_frames_total") + total("nm_lb_queued_frames") <= total("nm_port_frames_total", tool="lb", direction="rx")'
    tool=$NM_BIN/nmreplay
    timeout 20 "$tool" --record x.pcap -i 'netmap:p{1' --peer 'netmap:p}1' -n 100 --metrics - >out 2>err
    metrics out 'total("nm_port_frames_total", tool="nmreplay", direction="rx") >= 100'
    timeout 20 "$tool" -f x.pcap -i null:x --metrics r.prom >/dev/null 2>&1
    metrics r.prom 'total("nm_port_frames_total", port="null:x", direction="tx") == 100'
}

@test "tools: a file that cannot be written is said before anything moves" {
    local t
    for t in "pkt-gen -f tx" nm-dump switch bridge ptnet-host; do
        tool=$NM_BIN/${t%% *}
        go -i null:x -i null:y ${t#"${t%% *}"} --metrics no/such/m.prom
        ends 1 'cannot write "no/such/m.prom"' || { echo "$t"; return 1; }
        usage "wants a value" --metrics
        usage "the name of the file is empty" --metrics ''
        usage "stdout" -i null:x -i null:y --json --metrics -
    done
    tool=$NM_BIN/lb
    go -i null:x -p out:1 --metrics no/such/m.prom
    ends 1 'cannot write "no/such/m.prom"'
    usage "stdout" -i null:x --json --metrics -
    tool=$NM_BIN/nmreplay
    go --record x.pcap -i null:x --time 1 --metrics no/such/m.prom
    ends 1 'cannot write "no/such/m.prom"'
    usage "stdout" --record - -i null:x --metrics -
}

@test "ptnet-host: its guests and their ports" {
    tool=$NM_BIN/ptnet-host
    timeout 20 "$tool" --own-switches -s a.sock -i vale1:a -s b.sock -i null:x -i null:y --time 0.3 --metrics - >out 2>err
    metrics out 'total("nm_guest_joined_total", tool="ptnet-host") == 0 and len(m["nm_guest_memory_bytes"]) == 2 and total("nm_guest_memory_bytes") > 0'
    metrics out 'total("nm_port_mode", tool="ptnet-host") == 3 and total("nm_port_mode", port="null:y", mode="null") == 1'
    metrics out 'len(m["nm_port_running"]) == 3 and total("nm_port_running") == 0 and total("nm_port_kicks_total") == 0 and len(m["nm_port_kicks_total"]) == 3'
    metrics out '("nm_host_sleeps_total" in m) and {dict(k)["direction"] for k in m["nm_port_frames_total"]} == {"tx", "rx"}'
    grep -q "frames from the guest" err
    in_background live "$tool" --own-switches -s c.sock -i vale1:a -T 50 --metrics live.prom
    soon test -s live.prom
    metrics live.prom 'total("nm_port_mode", port="vale1:a") == 1'
    # A port of a switch that programs meet on is counted there.
    timeout 20 "$tool" -s d.sock -i vale1:a --time 0.3 --metrics - >out 2>err
    metrics out 'total("nm_port_running", port="vale1:a") == 1 and "nm_port_frames_total" not in m'
}

@test "ptnet-if: what went between the stack and the port" {
    namespaces nmme w || skip "cannot make network namespaces here"
    [ -c /dev/net/tun ] || skip "no /dev/net/tun"
    tool=$NM_BIN/ptnet-if
    in_background if ip netns exec ${ns}w "$tool" -i 'netmap:p{1' -n pta -i 'netmap:p}1' -n ptb --metrics if.prom -T 50
    soon grep -q joined if.err
    # Neighbours are asked for, on one and then on the other.
    ip -n ${ns}w addr add 10.82.0.1/24 dev pta
    in_ns w ping -q -c 2 -i 0.2 -W 1 10.82.0.2 >/dev/null || true
    kill -INT $pid
    wait $pid
    metrics if.prom 'total("nm_joint_frames_total", interface="pta", direction="from_stack") > 0'
    metrics if.prom 'total("nm_joint_frames_total", interface="pta", direction="from_stack") == total("nm_port_frames_total", port="p{1", direction="tx") + total("nm_joint_drops_total", interface="pta", direction="from_stack")'
    metrics if.prom 'total("nm_joint_frames_total", interface="ptb", direction="to_stack") > 0 and total("nm_port_mode", tool="ptnet-if") == 2'
    metrics if.prom 'total("nm_joint_bytes_total") > 0 and {"nm_joint_large_frames_total", "nm_joint_completed_frames_total", "nm_joint_cut_frames_total", "nm_joint_segments_total"} <= set(m)'
    run in_ns w timeout 20 "$tool" -i 'netmap:q{1' -n pta --metrics no/such/m.prom
    ends 1 'cannot write "no/such/m.prom"'
    timeout 20 ip netns exec ${ns}w "$tool" -i 'netmap:q{1' -n pta --time 0.2 --metrics - >out 2>err
    metrics out 'total("nm_joint_frames_total", tool="ptnet-if", interface="pta") >= 0'
    grep -q "frames out" err
    usage "wants a value" --metrics
    usage "the name of the file is empty" -i 'netmap:q{1' --metrics ''
    usage "stdout" -i 'netmap:q{1' --json --metrics -
    usage "stdout" -i 'netmap:q{1' --csv --json
}

@test "tools: a name that is no text makes neither JSON nor metrics that cannot be read" {
    tool=$NM_BIN/pkt-gen
    timeout 20 "$tool" -i $'null:\xff\xc2\x9b"\n\x7f' -f tx -n 10 --json --metrics m.prom >out 2>err
    metrics m.prom 'total("nm_port_frames_total", direction="tx") == 10'
    python3 - <<'PY'
import json
d = json.loads(open("out", "rb").read().splitlines()[-1].decode("utf-8", "strict"))
assert "\ufffd" in json.dumps(d, ensure_ascii=False), d
assert not {b"\xff", b"\x9b", b"\x7f"} & {bytes([c]) for c in open("m.prom", "rb").read()}
PY
}
