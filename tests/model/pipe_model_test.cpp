// SPDX-License-Identifier: BSD-2-Clause
// Random operations on a pipe against a reference that is a queue: what netmap's words promise, and nothing else.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <random>

#include "nm/kring.hpp"
#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::index_t;

struct reference {
    std::deque<std::uint32_t> queued;   // in the sender's ring, not yet synced
    std::deque<std::uint32_t> in_pipe;  // sent, not yet seen by the receiver
    std::deque<std::uint32_t> seen;     // in the receiver's ring, not yet passed by head
    index_t unreturned = 0;             // passed by head, not yet synced
};

TEST(pipe_model, random_operations_equal_a_queue) {
    for (const unsigned slots : {2U, 3U, 5U, 8U, 64U})
        for (unsigned seed = 1; seed <= 4; ++seed) {
            pipe_pair p(slots);
            auto& tx = p.a.tx();
            auto& rx = p.b.rx();
            reference m;
            std::mt19937 engine(seed * 1000 + slots);
            const auto below = [&engine](index_t n) { return static_cast<index_t>(engine() % n); };
            std::uint32_t number = 0;
            const index_t room = slots - 1;
            for (int step = 0; step < 20'000; ++step) {
                switch (below(6)) {
                    case 0:  // queue some by hand
                        for (index_t n = below(slots); n != 0 && tx.head() != tx.tail(); --n) {
                            std::memcpy(tx.buf(), &number, 4);
                            tx.slot().len = 60;
                            tx.slot().flags = 0;
                            tx.advance();
                            m.queued.push_back(number++);
                        }
                        break;
                    case 1: {
                        ASSERT_EQ(tx.txsync(), m.queued.size());
                        m.in_pipe.insert(m.in_pipe.end(), m.queued.begin(), m.queued.end());
                        m.queued.clear();
                        ASSERT_EQ(tx.space(), room - m.in_pipe.size() - m.seen.size() - m.unreturned);
                        break;
                    }
                    case 2: {
                        m.unreturned = 0;
                        ASSERT_EQ(rx.rxsync(), m.in_pipe.size());
                        m.seen.insert(m.seen.end(), m.in_pipe.begin(), m.in_pipe.end());
                        m.in_pipe.clear();
                        ASSERT_EQ(rx.space(), m.seen.size());
                        break;
                    }
                    case 3:  // pass some by hand
                        for (index_t n = below(slots); n != 0 && rx.head() != rx.tail(); --n) {
                            std::uint32_t got = 0;
                            std::memcpy(&got, rx.buf(), 4);
                            ASSERT_EQ(got, m.seen.front());
                            m.seen.pop_front();
                            rx.advance();
                            ++m.unreturned;
                        }
                        break;
                    case 4: {  // the fused send: what was queued goes first
                        const index_t want = 1 + below(slots);
                        const std::uint32_t before = number;
                        const index_t n = send_numbered(tx, want, number);
                        number = before + n;
                        m.in_pipe.insert(m.in_pipe.end(), m.queued.begin(), m.queued.end());
                        m.queued.clear();
                        for (index_t i = 0; i < n; ++i) m.in_pipe.push_back(before + i);
                        break;
                    }
                    case 5: {  // the fused receive: what was seen comes first
                        std::deque<std::uint32_t> all = m.seen;
                        all.insert(all.end(), m.in_pipe.begin(), m.in_pipe.end());
                        const index_t want = below(slots);
                        const index_t n = nm::drain(rx, want, [&](nm::frame& f) noexcept {
                            std::uint32_t got = 0;
                            std::memcpy(&got, f.data(), 4);
                            EXPECT_EQ(got, all.front());
                            all.pop_front();
                        });
                        ASSERT_EQ(n, std::min<std::size_t>(want, m.seen.size() + m.in_pipe.size()));
                        for (index_t i = 0; i < n; ++i) {
                            auto& from = m.seen.empty() ? m.in_pipe : m.seen;
                            from.pop_front();
                        }
                        m.unreturned = 0;
                        break;
                    }
                }
                ASSERT_EQ(tx.stats().reinits + rx.stats().reinits, 0U);
            }
            tx.txsync();
            nm::drain(rx, 2 * slots);
            nm::drain(rx, 2 * slots);
            expect_conserved(p.a, p.b);
        }
}

}  // namespace
