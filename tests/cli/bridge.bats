#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# bridge without privileges: between pipes whose far ends it feeds and drains itself, and null ports.

load tool

setup() {
    tool=$NM_BIN/bridge
    pipes="-i netmap:a{1 -i netmap:b{1 --feed netmap:a}1 --drain netmap:b}1"
    cd "$BATS_TEST_TMPDIR"
}

@test "forwards, loses nothing and says so" {
    go $pipes -n 200k
    ends 0 "netmap:a{1 -> netmap:b{1: 200000 in = 200000 out + 0 dropped + 0 waiting"
    says "conserved"
    [[ $output != *"NOT CONSERVED"* ]]
}

@test "--json: sums agree" {
    for more in "" "-c" "-b 1"; do
        "$tool" $pipes --time 0.3 -T 100 --json --expect-loss 0 --expect-pps '>1k' $more >out 2>err
        json out 'd["type"] == "summary" and d["conserved"] and len(lines) >= 2 and lines[0]["type"] == "interval"'
        json out 'd["directions"][0]["in"] == d["directions"][0]["out"] + d["directions"][0]["left"] > 0'
        json out 'd["ports"][1]["tx"]["queued"] == d["packets"] and d["ports"][1]["tx"]["dropped"] == 0'
        json out 'd["ports"][0]["name"] == "netmap:a{1" and all(e["met"] for e in d["expectations"])'
    done
}

@test "both ways at once" {
    "$tool" -i 'netmap:a{1' -i 'netmap:b{1' --feed 'netmap:a}1' --drain 'netmap:b}1' --time 0.2 --json >out 2>err
    json out '[(w["from"], w["to"]) for w in d["directions"]] == [("netmap:a{1", "netmap:b{1"), ("netmap:b{1", "netmap:a{1")]'
}

@test "a destination that takes nothing pushes back" {
    "$tool" -i 'netmap:a{1' -i 'netmap:b{1' --feed 'netmap:a}1' --time 0.5 --json >out 2>err
    json out 'd["conserved"] and d["directions"][0]["out"] == 0 and d["directions"][0]["pending"] == 1023'
}

@test "-L sends back on one port, alone or named twice" {
    go -L -i 'netmap:a{1' --feed 'netmap:a}1' -n 10k
    ends 0 "netmap:a{1 -> netmap:a{1: 10000 in = 10000 out"
    go -L -i 'netmap:a{1' -i 'netmap:a{1' --feed 'netmap:a}1' -n 10k
    ends 0 "10000 in = 10000 out"
    go -i 'netmap:a{1'
    ends 1 "has no host rings to go with it; give a second -i, or -L"
}

@test "-c copies: the ports have memories of their own" {
    go -i 'netmap:a{1@3' -i 'netmap:b{1@3' -c --time 0.1
    ends 0 "the names of both ports ask for one memory"
    go -L -i 'netmap:a{1' -c --time 0.1
    ends 0 "note: -c is for two ports"
    go -L -i 'netmap:a{1' -i 'netmap:b{1' --time 0.1
    ends 0 "note: -L is for one port"
}

@test "idle, it sleeps" {
    python3 - "$tool" <<'PY'
import resource, subprocess, sys
subprocess.run([sys.argv[1], "-i", "netmap:a{1", "-i", "netmap:b{1", "--time", "1"], check=True, capture_output=True, timeout=10)
r = resource.getrusage(resource.RUSAGE_CHILDREN)
assert r.ru_utime + r.ru_stime < 0.2, r
PY
}

@test "rate lines, -v and --csv" {
    go $pipes --time 0.35 -T 100 -v
    [[ $output =~ main_thread\ \[nm\]\ [0-9.]+\ [KM]?pps\ \([0-9.]+\ [KM]?pkts\  ]]
    says "  netmap:a{1 -> netmap:b{1: "
    "$tool" $pipes -n 1000 --csv >out 2>err
    [ "$(head -n 1 out)" = "type,seconds,packets,bytes,pps,bps,avg_batch" ]
    grep -q '^summary,[0-9.]*,[0-9]*,' out
    usage "choose one" $pipes --json --csv
}

@test "SIGINT prints the table" {
    interrupted INT 0.3 "$tool" $pipes --json
    json out 'd["type"] == "summary" and d["conserved"] and d["packets"] > 0'
    grep -q "conserved" err
}

@test "expectations and modes decide the exit status" {
    go $pipes --time 0.2 --expect-pps '<1'
    ends 3 "NOT MET"
    go $pipes --time 0.2 --require-mode pipe
    ends 0
    go $pipes --time 0.2 --require-mode af_packet
    ends 1 "opens in mode pipe"
}

@test "a closed stdout is told in a sentence" {
    run bash -c "'$tool' $pipes --time 5 -T 50 --json 2>err | head -n 1 >/dev/null; exit \${PIPESTATUS[0]}"
    ends 1
    grep -q "cannot write to stdout" err
}

@test "bad command lines" {
    usage "no port given"
    usage "more than twice" -i null:a -i null:b -i null:c
    usage 'did you mean "netmap:ens192"?' -i ens192 -i null:b
    usage "stands alone" null:a null:b
    usage "is no option" -i null:a -Z
    usage "is no mode" $pipes --require-mode quick
    for o in i b w n T -interface -burst -wait-link -count -time -report -feed -drain -require-mode -expect-loss -expect-pps; do
        usage "wants a value" -i null:a -$o
    done
    for o in b w n T -time -expect-loss -expect-pps; do
        usage '"abc"' $pipes -$o abc
        usage '""' $pipes -$o ''
        usage '"-1"' $pipes -$o -1
        usage '"99999999999999999999999"' $pipes -$o 99999999999999999999999
    done
    go -i netmap:nosuchport0 -i null:b
    ends 1 "nosuchport0"
}

@test "every letter of netmap's bridge is in the help, and has a long name" {
    go --help
    ends 0
    for o in h b c i v w L; do
        grep -qE "^  -$o, --[a-z0-9-]+" <<<"$output" || { echo "no -$o"; return 1; }
    done
    go --version
    ends 0 "pipes"
}
