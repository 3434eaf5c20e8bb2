// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <vector>

#include "nm/fuse.hpp"
#include "nm/ports/pipe_wire.hpp"

namespace nm::test {

using checked_tx = pipe_tx<eventfd_notifier, checked_peer>;
using checked_rx = wire_rx<>;

/// Both halves of one wire, each with a ring of its own in a region of its own front; buffers are common.
struct wire_rig {
    explicit wire_rig(index_t slots) : n(slots), given(n), wire(n) {
        region_options o;
        o.bufs = 2 + 3 * n;
        memory = *region::create(o);
        port_shape shape;
        shape.tx_slots = shape.rx_slots = n;
        shape.tx_bufs = shape.rx_bufs = false;
        mine = *port_memory::create(memory, "mine", shape);
        theirs = *port_memory::create(memory, "theirs", shape);
        for (index_t i = 0; i < n; ++i) {
            given[i] = 2 + i;
            wire[i] = {2 + i, 0, 0, 0};
            mine.tx(0)->slots()[i] = theirs.rx(0)->slots()[i] = {2 + i, 0, 0, 0};
        }
        const eventfd_notifier nobody{};
        tx = std::make_unique<tx_ring<checked_tx>>(mine.tx(0), n, *memory,
                                                       checked_tx{mine.tx(0)->slots(), wire.data(), &link, n, memory->num_bufs(), nobody, -1, nullptr, false, false, 0, 0, 0, {0, given.data()}});
        rx = std::make_unique<rx_ring<checked_rx>>(theirs.rx(0), n, *memory,
                                                       checked_rx{{&link, n, nobody, -1, nullptr, false, false, false, 0, 0, 0, {0, given.data()}}, wire.data()});
    }
    // `sent` frames go through and come back, so that indexes are anywhere; numbered.
    void turn(index_t times) {
        for (index_t i = 0; i < times; ++i) {
            send(1);
            EXPECT_EQ(take(1), 1U);
        }
        (void)tx->txsync();
    }
    void send(index_t count) {
        EXPECT_EQ(generate(*tx, count, [&](frame& f) noexcept {
            std::memcpy(f.data(), &next, sizeof next);
            ++next;
            f.resize(60);
        }), count);
    }
    index_t take(index_t count) {
        return drain(*rx, count, [&](frame& f) noexcept {
            std::uint32_t number = 0;
            std::memcpy(&number, f.data(), sizeof number);
            in_order &= number == expected;
            ++expected;
        });
    }

    index_t n;
    ring_link link;
    std::vector<std::uint32_t> given;
    std::vector<slot> wire;
    region_ptr memory;
    port_memory mine, theirs;
    std::unique_ptr<tx_ring<checked_tx>> tx;
    std::unique_ptr<rx_ring<checked_rx>> rx;
    std::uint32_t next = 0, expected = 0;
    bool in_order = true;
};

}  // namespace nm::test
