#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# What all tools have in common: examples/common/main.hpp.

load tool

tools=$(sed -n 's/^set(tools \(.*\))$/\1/p' "$NM_SOURCE/examples/CMakeLists.txt")

setup() { cd "$BATS_TEST_TMPDIR"; }

@test "every tool says what it is, by letter where that is free" {
    for t in $tools; do
        [ -x "$NM_BIN/$t" ] || continue # left out of this build, aloud
        tool=$NM_BIN/$t
        go --help
        ends 0 "usage: $t" && says "Exit status: 0 done" && says "--version" || { echo "$t"; return 1; }
        if grep -q -- "-h, --help" <<<"$output"; then
            long=$output
            go -h
            ends 0 && [ "$output" = "$long" ] || { echo "$t -h"; return 1; }
        fi
        for o in --version -V; do
            go $o
            ends 0 "$t (nm " || { echo "$t $o"; return 1; }
        done
    done
}

@test "every tool describes itself" {
    for t in $tools; do
        [ -x "$NM_BIN/$t" ] || continue # left out of this build, aloud
        timeout 20 "$NM_BIN/$t" --describe >out
        # And the help shows the same options, in this order.
        "$NM_BIN/$t" --help | grep -oE '^ +(-.,)? *--[a-z0-9-]+' | grep -oE '[a-z0-9][a-z0-9-]+$' >shown
        json out "d['name'] == '$t' and d['usage'].startswith('$t') and d['purpose'] and d['version'] and \
            len({o['letter'] or o['name'] for o in d['options']}) == len({o['name'] for o in d['options']}) == len(d['options']) and \
            all(o['help'] and not o['help'].endswith('.') for o in d['options']) and 'describe' not in [o['name'] for o in d['options']] and \
            [o['name'] for o in d['options']] == open('shown').read().split()"
    done
}

@test "help stops whatever else is on the command line; what is before it is checked" {
    tool=$NM_BIN/pkt-gen
    go --help --nonsense
    ends 0 "usage:"
    usage "is no option" --nonsense --help
    usage "--help takes no value" --help=5
    usage "--describe takes no value" --describe=
    usage "--version takes no value" --version=x
}

@test "words without an option, and after --" {
    tool=$NM_BIN/pkt-gen
    usage '"x" stands alone' x
    usage '"-n" stands alone' -- -n 5
    usage '"-" stands alone' -
    tool=$NM_BIN/nm-host
    usage "one name only" vale1 -- vale2
    usage "no name to meet under" -- -a/b
}

@test "an option that there is not" {
    for t in $tools; do
        [ -x "$NM_BIN/$t" ] || continue # left out of this build, aloud
        tool=$NM_BIN/$t
        usage "$t: --no-such-option is no option of this program" --no-such-option
    done
}

@test "stdout is full" {
    for t in $tools; do
        [ -x "$NM_BIN/$t" ] || continue # left out of this build, aloud
        run bash -c "timeout 20 '$NM_BIN/$t' --describe >/dev/full"
        ends 1 "cannot write to stdout" || { echo "$t"; return 1; }
    done
}
