#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The documents and the API reference.

setup() { cd "$NM_SOURCE"; }

# Every tunable of netmap(4), ptnet(4) and of its sources.
@test "docs/tunables.md has every tunable of netmap's" {
    for name in admode generic_rings generic_ringsize generic_mit generic_hwcsum generic_txqdisc fwd txsync_retry no_pendintr no_timestamp \
        verbose debug buf_num buf_size ring_num ring_size if_num if_size buf_curr_num buf_curr_size ring_curr_num ring_curr_size \
        if_curr_num if_curr_size priv_buf_num priv_buf_size priv_ring_num priv_ring_size priv_if_num priv_if_size bridge_batch \
        max_bridges default_pipes ptnet_vnet_hdr ptnet_gso port_numa_affinity sink_num sink_delay_ns; do
        # In the first column, and with something in the third.
        grep -qE "^\| [^|]*\`$name\`[^|]*\| [^|]+\| [^|]{4,}\|" docs/tunables.md || { echo "$name"; return 1; }
    done
}

@test "what docs/tunables.md and SECURITY.md name is there" {
    for word in $(grep -oE '`(open_options|context_options|region_options)::[a-z_]+' docs/tunables.md | sed 's/.*:://' | sort -u); do
        grep -qE "\b$word\b *(=|\{|;)" include/nm/port_options.hpp include/nm/context.hpp include/nm/region.hpp || { echo "$word"; return 1; }
    done
    for key in $(grep -oE '@conf:[a-z-]+=' docs/tunables.md | sed 's/.*://; s/=//' | sort -u); do
        grep -q "\"$key\"" include/nm/port_spec.hpp || { echo "@conf:$key"; return 1; }
    done
    for file in $(grep -oE 'tests/[A-Za-z0-9_/.-]+[a-z0-9]' SECURITY.md | sort -u); do [ -e "$file" ] || { echo "$file"; return 1; }; done
}

@test "docs/README.md names every document" {
    for file in docs/*.md; do
        [ "$file" = docs/README.md ] || grep -q "(${file#docs/})" docs/README.md || { echo "$file"; return 1; }
    done
}

@test "the API reference has no warning" {
    command -v doxygen >/dev/null || skip "doxygen is not installed (scripts/install-deps)"
    sed -e "s|@PROJECT_BINARY_DIR@|$BATS_TEST_TMPDIR|; s|@PROJECT_SOURCE_DIR@|$PWD|g; s|@PROJECT_VERSION@|0|" \
        -e 's/^GENERATE_LATEX.*/&\nGENERATE_HTML = NO\nGENERATE_XML = YES/; s/^SOURCE_BROWSER.*//; s/^VERBATIM_HEADERS.*//' docs/Doxyfile.in >"$BATS_TEST_TMPDIR/Doxyfile"
    run timeout 100 doxygen "$BATS_TEST_TMPDIR/Doxyfile"
    [ "$status" -eq 0 ] || { echo "$output" | head -n 20; return 1; }
    [ -z "$output" ] || { echo "$output" | head -n 20; return 1; }
    # And it has read what it was to read.
    grep -lq 'generate' "$BATS_TEST_TMPDIR"/reference/xml/namespacenm.xml
}
