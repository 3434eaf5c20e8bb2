#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Manual pages and completions: made from the same tables as the options, held against them, and tried in the shells.

load tool

setup() {
    manual=$NM_BIN/../manual
    [ -d "$manual" ] || skip "this build tree has no manual (no python3 when it was configured)"
    cd "$BATS_TEST_TMPDIR"
    PATH=$NM_BIN:$PATH # valectl
}

tools() { sed -n 's/^set(tools \(.*\))$/\1/p' "$NM_SOURCE/examples/CMakeLists.txt" | tr ' ' '\n' | grep -vx nm-host; }
installed() { case $1 in nmreplay) echo nm-replay ;; nm* | valectl) echo "$1" ;; *) echo "nm-$1" ;; esac; }
pages() { [ -f "$manual/man7/nm.7" ] || skip "no scdoc when this build tree was configured (scripts/install-deps)"; }
shell() { command -v "$1" >/dev/null || skip "$1 is not installed (scripts/install-deps)"; }

# options TOOL: -x and --name of all its options, as it says itself.
options() {
    timeout 20 "$NM_BIN/$1" --describe | python3 -c '
import json, sys
for o in json.load(sys.stdin)["options"]:
    print(*(["-" + o["letter"]] if o["letter"] else []), "--" + o["name"], sep="\n")' | LC_ALL=C sort
}

# same WHAT FILE FILE: or the difference.
same() { diff "$2" "$3" || { echo "$1: not the same options"; return 1; }; }

# bash_completes NAME LINE [WORDBREAKS]: the candidates, as a shell has them after TAB.
bash_completes() {
    timeout 20 bash -c '. "$1/bash/$2"
        f=$(complete -p "$2" | sed "s/.*-F \([^ ]*\) .*/\1/")
        COMP_LINE=$3 COMP_POINT=${#3} COMP_WORDBREAKS=${4-$COMP_WORDBREAKS}
        $f 2>&1
        [ ${#COMPREPLY[@]} -eq 0 ] || printf "%s\n" "${COMPREPLY[@]}"' bash "$manual" "$@"
}
fish_completes() { timeout 20 fish --no-config -c 'source $argv[1]/fish/$argv[2].fish; complete -C $argv[3]' "$manual" "$1" "$2" | cut -f1; }

@test "every tool has a page and three completions, and its prose" {
    for t in $(tools); do
        [ -x "$NM_BIN/$t" ] || continue # left out of this build, aloud
        n=$(installed "$t")
        for f in "$NM_SOURCE/docs/man/$t.scd" "$manual/$n.1.scd" "$manual/bash/$n" "$manual/zsh/_$n" "$manual/fish/$n.fish"; do
            [ -s "$f" ] || { echo "$t: no $f"; return 1; }
        done
        if [ -f "$manual/man7/nm.7" ]; then [ -s "$manual/man1/$n.1" ]; fi
    done
    tools | grep -qx pkt-gen
}

@test "a page has the tool's options, all and no other" {
    pages
    for t in $(tools); do
        n=$(installed "$t")
        [ -x "$NM_BIN/$t" ] || continue
        options "$t" >want
        sed -n '/^\.SH OPTIONS/,/^\.SH EXIT/p' "$manual/man1/$n.1" | sed 's/\\-/-/g' | grep -E '^\\fB-' | grep -oE '\\fB--?[A-Za-z0-9-]+' | sed 's/^\\fB//' | LC_ALL=C sort >have
        same "$t" want have
    done
}

@test "pages are clean, and name only pages that there are" {
    pages
    for f in "$manual"/man1/*.1 "$manual"/man7/*.7; do
        if command -v groff >/dev/null; then
            run groff -man -ww -z -Tutf8 "$f"
            [ "$status" -eq 0 ] && [ -z "$output" ] || { echo "$f: $output"; return 1; }
        fi
        if command -v mandoc >/dev/null; then
            run mandoc -Tlint -W error "$f"
            [ "$status" -eq 0 ] || { echo "$f: $output"; return 1; }
        fi
        grep -q '^\.SH NAME' "$f"
        # A name that was not filled in, or a page of another tool's that there is not.
        ! grep -n '@[A-Z]*@' "$f"
        for see in $(grep -oE '\\fB(nm[a-z-]*|valectl)\\fR\([17]\)' "$f" | sed 's/\\fB//; s/\\fR//; s/[()]/ /g' | awk '{print "man" $2 "/" $1 "." $2}'); do
            [ -f "$manual/$see" ] || { echo "$f names $see"; return 1; }
        done
    done
    for f in "$manual"/man1/*.1; do grep -q '^\.SH EXIT STATUS' "$f"; done
    command -v groff >/dev/null || command -v mandoc >/dev/null || skip "neither groff nor mandoc to check them with"
}

@test "bash completes the tool's options, all and no other" {
    for t in $(tools); do
        n=$(installed "$t")
        [ -x "$NM_BIN/$t" ] || continue
        bash -n "$manual/bash/$n"
        options "$t" >want
        bash_completes "$n" "$n -" | LC_ALL=C sort >have
        same "$t" want have
    done
}

@test "bash completes values by what they are" {
    [ "$(bash_completes nm-pkt-gen 'nm-pkt-gen -i netmap:l')" = lo ]            # bash has taken the word apart at its colon
    [ "$(bash_completes nm-pkt-gen 'nm-pkt-gen -i netmap:l' ' ')" = netmap:lo ] # this one has not
    [ "$(bash_completes nm-pkt-gen 'nm-pkt-gen -f t')" = tx ]
    [ "$(bash_completes nm-pkt-gen 'nm-pkt-gen --function=po')" = pong ]
    [ "$(bash_completes nm-pkt-gen 'nm-pkt-gen --function=po' ' ')" = --function=pong ]
    bash_completes nm-pkt-gen 'nm-pkt-gen --require-mode ' | grep -qx af_packet
    touch some-capture.pcap
    [ "$(bash_completes nm-pkt-gen 'nm-pkt-gen -P some')" = some-capture.pcap ]
    [ -z "$(bash_completes nm-pkt-gen 'nm-pkt-gen -n ')" ]
    [ -z "$(bash_completes nm-pkt-gen 'nm-pkt-gen -n 10 ')" ]
    [ "$(bash_completes nm-switch 'nm-switch -h l')" = lo ]
    bash_completes nmctl 'nmctl b' | grep -qx bind
    bash_completes nmctl 'nmctl bind l' | grep -qx lo
}

@test "running switches complete, in bash and in fish" {
    timeout 60 "$NM_BIN/pkt-gen" -i vale77:a -f rx --time 50 >out 2>err 3>&- &
    pid=$!
    for _ in $(seq 200); do
        valectl -l 2>/dev/null | grep -q vale77:a && break
        sleep 0.1
    done
    result=0
    bash_completes nm-pkt-gen 'nm-pkt-gen -i vale77' | grep -qx vale77:a || { echo "bash: no port"; result=1; }
    bash_completes valectl 'valectl -l vale7' | grep -qx vale77 || { echo "bash: no switch"; result=1; }
    bash_completes valectl 'valectl -a vale77:l' | grep -qx lo || { echo "bash: nothing to attach"; result=1; }
    if command -v fish >/dev/null; then
        fish_completes nm-pkt-gen 'nm-pkt-gen -i vale77' | grep -qx vale77:a || { echo "fish: no port"; result=1; }
    fi
    kill "$pid"
    wait "$pid" || true
    return $result
}

@test "fish completes the tool's options, all and no other, and values" {
    shell fish
    for t in $(tools); do
        n=$(installed "$t")
        [ -x "$NM_BIN/$t" ] || continue
        fish --no-execute "$manual/fish/$n.fish"
        options "$t" | grep -- ^-- >want
        fish_completes "$n" "$n --" | sed 's/=$//' | LC_ALL=C sort -u >have # --list and --list=, whose value may be left out
        same "$t" want have
        options "$t" | grep -v -- ^-- | sort >want
        grep -oE "^complete -c $n -s ." "$manual/fish/$n.fish" | sed 's/.*-s /-/' | sort >have
        same "$t" want have
    done
    fish_completes nm-pkt-gen 'nm-pkt-gen -i netmap:l' | grep -qx netmap:lo
    [ "$(fish_completes nm-pkt-gen 'nm-pkt-gen -f t')" = tx ]
    fish_completes nmctl 'nmctl b' | grep -qx bind
}

@test "zsh completes the tool's options, all and no other" {
    for t in $(tools); do
        n=$(installed "$t")
        [ -x "$NM_BIN/$t" ] || continue
        if command -v zsh >/dev/null; then zsh -n "$manual/zsh/_$n"; fi
        head -n 1 "$manual/zsh/_$n" | grep -qx "#compdef $n"
        options "$t" >want
        # '*'{-i+,--interface=}'[...  and  '*--json[...
        sed -n '/^_arguments/,$p' "$manual/zsh/_$n" | sed -nE "s/^    '\*'\{([^}]*)\}.*/\1/p; s/^    '\*(--[a-z0-9-]+).*/\1/p" | tr ',' '\n' | sed 's/[+=]$//' | LC_ALL=C sort >have
        same "$t" want have
    done
    command -v zsh >/dev/null || skip "zsh is not installed (scripts/install-deps): its files were read, not parsed"
}

@test "zsh offers them" {
    shell zsh
    cat >try <<'ZSH'
zmodload zsh/zpty
zpty z "zsh -f -i"
zpty -w z "fpath=($1/zsh \$fpath); autoload -U compinit; compinit -D; bindkey '^I' list-choices; echo rea''dy"
zpty -r z line "*ready*"
zpty -w -n z $'nm-pkt-gen -f po\t'
zpty -r z line "*pong*" && print found
zpty -d z
ZSH
    run timeout 60 zsh -f try "$manual"
    [ "$output" = found ] || { echo "$output"; return 1; }
}

@test "the words that values are called by are those that make-manual knows" {
    for word in $(for t in $(tools); do [ ! -x "$NM_BIN/$t" ] || "$NM_BIN/$t" --describe; done | python3 -c '
import json, sys
for line in sys.stdin:
    for o in json.loads(line)["options"]:
        print((o["values"] or o["argument"]).replace(" ", "_"))' | sort -u); do
        case $word in
            PORT* | FILE* | INTERFACE | PATH) [ "$("$NM_SOURCE/scripts/make-manual" --kind "$word")" != any ] || { echo "$word"; return 1; } ;;
        esac
    done
    [ "$("$NM_SOURCE/scripts/make-manual" --kind 'tx|rx')" = "words ['tx', 'rx']" ]
    [ "$("$NM_SOURCE/scripts/make-manual" --kind COUNT)" = "any []" ]
}

@test "what is installed has its page and its completions" {
    shell cmake
    cmake --install "$NM_BIN/.." --prefix "$PWD/prefix" --component tools >log 2>&1 || { cat log; return 1; }
    for program in prefix/bin/*; do
        n=${program##*/}
        [ -s "prefix/share/bash-completion/completions/$n" ] && [ -s "prefix/share/zsh/site-functions/_$n" ] && [ -s "prefix/share/fish/vendor_completions.d/$n.fish" ] || { echo "$n"; return 1; }
        [ ! -f "$manual/man7/nm.7" ] || [ -s "prefix/share/man/man1/$n.1" ] || { echo "$n.1"; return 1; }
        ! grep -l "$NM_BIN" "prefix/share/bash-completion/completions/$n"
    done
    [ ! -f "$manual/man7/nm.7" ] || [ -s prefix/share/man/man7/nm.7 ]
}
