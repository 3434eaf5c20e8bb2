// SPDX-License-Identifier: BSD-2-Clause
// Random traffic on a switch against a reference that knows queues and nothing else: which frame arrives where, in which
// order, what is dropped and why, and where each buffer is.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "nm/nm.hpp"

namespace {

using nm::cause;
using nm::index_t;
using nm::vale::destination;
using nm::vale::packet;
using nm::vale::vale_switch;

constexpr std::uint8_t all = 255, nowhere = 254, some = 253;

/// Byte 0 says where to, byte 1 to which ring (16: the same).
struct by_byte {
    explicit by_byte(const nm::vale::port_set* s) noexcept : set(s) {}
    destination operator()(const packet& p) const noexcept {
        switch (p.data[0]) {
            case all: return destination::to_all();
            case nowhere: return destination::drop();
            case some: return destination::to(*set);
            default: return p.data[1] == 16 ? destination::to(p.data[0]) : destination::to(p.data[0], p.data[1]);
        }
    }
    const nm::vale::port_set* set;
};

struct frame {
    std::uint32_t number;
    std::vector<std::uint16_t> lens;  // of its slots
    std::uint8_t to, ring;
};

/// A port as the reference sees it.
struct model_port {
    unsigned rings;
    index_t tx_slots, rx_slots;
    struct queue {
        std::deque<frame> frames;
        index_t room = 0;  // slots
        bool full = false;
    };
    std::vector<queue> rx;
    std::array<std::uint64_t, nm::causes> tx_drops{}, rx_drops{};
    std::uint64_t accepted = 0, delivered = 0;

    void begin() {
        for (auto& q : rx) q.full = q.room == 0;
    }
};

class model {
public:
    explicit model(unsigned seed, bool chains) : random_(seed), chains_(chains), sw_(ctx_, "vale0", &set_) {}

    void run(int steps) {
        for (int i = 0; i < 3; ++i) attach();
        for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
            const unsigned what = below(100);
            if (what < 3) attach();
            else if (what < 5) detach();
            else if (what < 8) change_set();
            else if (what < 60) send();
            else receive();
        }
        while (!ports_.empty() && !testing::Test::HasFailure()) {
            receive_all(ports_.begin()->first);
            check(ports_.begin()->first);
            forget(ports_.begin()->first);
        }
        const auto s = sw_.stats();
        EXPECT_TRUE(s.conserved());
        EXPECT_EQ(s.accepted, accepted_);
        EXPECT_EQ(s.delivered, delivered_);
        EXPECT_EQ(s.replicas, replicas_);
    }

private:
    struct port {
        std::optional<nm::vale_port> real;
        model_port m;
        std::string name;
        bool shared;
    };

    unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }

    void attach() {
        if (ports_.size() == 7) return;
        nm::open_options o;
        static constexpr std::array<unsigned, 6> slots{2, 3, 16, 100, 1024, 1500};
        o.tx_rings = 1 + below(4);
        o.rx_rings = 1 + below(4);
        o.tx_slots = slots[below(6)];
        o.rx_slots = slots[below(6)];
        o.storm_copies = 0;
        port p;
        p.shared = below(2) == 0;
        if (p.shared) {
            if (!region_) {
                nm::region_options r;
                r.bufs = 7 * 8 * 1500 + 2;
                r.meta_bytes = 4U << 20U;
                r.buf_size = buf_size;
                region_ = *nm::region::create(r);
            }
            o.memory = region_;
        } else {
            nm::region_options r;
            r.bufs = *o.tx_rings * *o.tx_slots + *o.rx_rings * *o.rx_slots + 2;
            r.meta_bytes = 1U << 20U;
            r.buf_size = buf_size;
            o.memory = *nm::region::create(r);
        }
        p.name = "p" + std::to_string(names_++);
        auto made = sw_.try_new_port(p.name, o);
        ASSERT_TRUE(made) << made.error().text;
        p.real.emplace(std::move(*made));
        p.m.rings = *o.rx_rings;
        p.m.tx_slots = *o.tx_slots;
        p.m.rx_slots = *o.rx_slots;
        p.m.rx.resize(p.m.rings);
        for (auto& q : p.m.rx) q.room = p.m.rx_slots - 1;
        const auto number = p.real->number();
        unsigned lowest = 0;
        while (ports_.count(static_cast<std::uint8_t>(lowest)) != 0) ++lowest;
        EXPECT_EQ(number, lowest);
        ports_.emplace(number, std::move(p));
    }
    void detach() {
        if (ports_.size() < 3) return;
        auto it = ports_.begin();
        std::advance(it, below(static_cast<unsigned>(ports_.size())));
        const auto number = it->first;
        if (below(2) == 0) {  // by name: what has arrived stays readable
            ASSERT_TRUE(sw_.detach(it->second.name));
            receive_all(number);
        }
        forget(number);
    }
    void forget(std::uint8_t n) {
        const port& p = ports_.at(n);
        accepted_ += p.m.accepted;
        delivered_ += p.m.delivered;
        ports_.erase(n);
    }
    void change_set() {
        for (unsigned p = 0; p < 8; ++p) below(2) == 0 ? set_.add(static_cast<std::uint8_t>(p)) : set_.remove(static_cast<std::uint8_t>(p));
    }

    frame make(unsigned most_slots) {
        frame f{next_++, {}, 0, static_cast<std::uint8_t>(below(17))};
        const unsigned how = below(20);
        f.to = how == 0 ? nowhere : how < 3 ? all : how < 5 ? some : static_cast<std::uint8_t>(below(7));
        unsigned slots = chains_ && below(6) == 0 ? 1 + below(std::min(most_slots, 8U)) : 1;
        if (chains_ && below(100) == 0) slots = std::min(most_slots, 64U);
        for (unsigned k = 0; k < slots; ++k)
            f.lens.push_back(static_cast<std::uint16_t>(k == 0 ? (below(20) == 0 ? 1 + below(13) : 14 + below(buf_size - 13)) : 1 + below(buf_size)));
        return f;
    }

    /// A batch by one ring; its frames are queued by hand and pushed by one txsync.
    void send() {
        auto it = ports_.begin();
        std::advance(it, below(static_cast<unsigned>(ports_.size())));
        auto& [number, p] = *it;
        const index_t r = below(p.real->num_tx_rings());
        auto& ring = p.real->tx(r);
        index_t left = below(3) == 0 ? p.m.tx_slots - 1 : std::min(p.m.tx_slots - 1, 1 + below(40));
        EXPECT_EQ(ring.space(), p.m.tx_slots - 1) << "a switch gives all slots back at once";
        std::vector<frame> batch;
        std::size_t holes = 0;
        while (left != 0) {
            if (below(30) == 0) {  // a hole
                ring.slot().len = 0;
                ring.slot().flags = 0;
                ring.advance();
                --left;
                batch.push_back({0, {0}, 0, 0});
                ++holes;
                continue;
            }
            // A frame may not fill the ring: one slot more than netmap needs.
            const frame f = make(std::min(left, p.m.tx_slots > 2 ? p.m.tx_slots - 2 : 1));
            left -= static_cast<index_t>(f.lens.size());
            for (std::size_t k = 0; k < f.lens.size(); ++k) {
                auto& s = ring.slot();
                std::memset(ring.buf(s), static_cast<int>(f.number + k), f.lens[k]);
                if (k == 0) {
                    ring.buf(s)[0] = f.to;
                    if (f.lens[0] >= 14) ring.buf(s)[1] = f.ring, std::memcpy(ring.buf(s) + 4, &f.number, 4);
                }
                s.len = f.lens[k];
                s.flags = k + 1 < f.lens.size() ? nm::ns_morefrag : std::uint16_t{0};
                s.ptr = random_();
                ring.advance();
            }
            batch.push_back(f);
        }
        ring.txsync();
        p.m.accepted += batch.size() - holes;
        predict(number, r, batch);
        check(number);
    }

    /// What the switch is to do. In parts of whole frames in at most 1024 slots: of each, a destination drops all behind the
    /// first frame that it has no room for.
    void predict(std::uint8_t from, index_t from_ring, const std::vector<frame>& batch) {
        auto& sender = ports_.at(from).m;
        const auto drop = [](auto& drops, cause c) { ++drops[static_cast<std::size_t>(c)]; };
        index_t slots = 0;
        for (auto& [n, p] : ports_) p.m.begin();
        for (const frame& f : batch) {
            slots += static_cast<index_t>(f.lens.size());
            if (slots > nm::vale::max_batch) {
                slots = static_cast<index_t>(f.lens.size());
                for (auto& [n, p] : ports_) p.m.begin();
            }
            if (f.lens[0] == 0) continue;
            if (f.lens[0] < 14) {
                drop(sender.tx_drops, cause::bad_len);
                continue;
            }
            if (f.to == nowhere) {
                drop(sender.tx_drops, cause::policy);
                continue;
            }
            std::vector<std::pair<std::uint8_t, unsigned>> to;
            if (f.to < some && ports_.count(f.to) != 0) {
                if (f.to == from) {
                    drop(sender.tx_drops, cause::no_dst);
                    continue;
                }
                // Of a lookup's ring number the low four bits count.
                to.emplace_back(f.to, (f.ring == 16 ? from_ring : f.ring) % ports_.at(f.to).m.rings);
            } else {
                for (auto& [n, p] : ports_)
                    if (n != from && (f.to != some || set_.test(n))) to.emplace_back(n, 0);
                if (to.empty()) drop(sender.tx_drops, cause::no_dst);
                else replicas_ += to.size() - 1;
            }
            for (const auto& [n, r] : to) put(ports_.at(n).m, r, f);
        }
    }
    void put(model_port& m, unsigned ring, const frame& f) {
        auto& q = m.rx[ring];
        const auto n = static_cast<index_t>(f.lens.size());
        const auto drop = [&m](cause c) { ++m.rx_drops[static_cast<std::size_t>(c)]; };
        if (q.full) return drop(cause::full);
        if (n >= m.rx_slots) return drop(cause::bad_chain);
        q.full = n > q.room;
        if (q.full) return drop(cause::full);
        q.room -= n;
        q.frames.push_back(f);
        ++m.delivered;
    }

    void receive() {
        auto it = ports_.begin();
        std::advance(it, below(static_cast<unsigned>(ports_.size())));
        auto& [number, p] = *it;
        const unsigned r = below(p.m.rings);
        take(p, r, below(4) == 0 ? 100000 : below(30));
    }
    void receive_all(std::uint8_t n) {
        auto& p = ports_.at(n);
        for (unsigned r = 0; r < p.m.rings; ++r) {
            take(p, r, 1000000);
            EXPECT_TRUE(p.m.rx[r].frames.empty()) << "lost";
        }
    }
    /// Takes up to `most` frames by hand and compares each byte.
    void take(port& p, unsigned r, unsigned most) {
        auto& ring = p.real->rx(r);
        auto& q = p.m.rx[r];
        ring.rxsync();
        while (most-- != 0 && !ring.empty()) {
            while (!ring.empty() && ring.slot().len == 0) ring.advance();
            if (ring.empty()) break;
            ASSERT_FALSE(q.frames.empty()) << "a frame that nobody sent here";
            const frame f = q.frames.front();
            q.frames.pop_front();
            for (std::size_t k = 0; k < f.lens.size(); ++k) {
                ASSERT_FALSE(ring.empty());
                const auto& s = ring.slot();
                ASSERT_EQ(s.len, f.lens[k]) << "frame " << f.number;
                ASSERT_EQ((s.flags & nm::ns_morefrag) != 0, k + 1 < f.lens.size());
                const std::uint8_t* const b = ring.buf(s);
                if (k == 0) {
                    std::uint32_t n = 0;
                    std::memcpy(&n, b + 4, 4);
                    ASSERT_EQ(n, f.number);
                    ASSERT_EQ(b[0], f.to);
                }
                for (unsigned i = k == 0 ? 8 : 0; i < s.len; ++i) ASSERT_EQ(b[i], static_cast<std::uint8_t>(f.number + k));
                ring.advance();
            }
            q.room += static_cast<index_t>(f.lens.size());
        }
        ring.rxsync();
        census(p);
    }

    void check(std::uint8_t n) {
        auto& p = ports_.at(n);
        const auto tx = p.real->tx_stats();
        EXPECT_EQ(tx.frames, p.m.accepted);
        for (std::size_t c = 0; c < nm::causes; ++c) EXPECT_EQ(tx.drops[c], p.m.tx_drops[c]) << nm::cause_name(static_cast<cause>(c));
        for (auto& [other, q] : ports_) {
            const auto rx = q.real->rx_stats();
            for (std::size_t c = 0; c < nm::causes; ++c) EXPECT_EQ(rx.drops[c], q.m.rx_drops[c]) << nm::cause_name(static_cast<cause>(c));
        }
    }

    /// Each buffer is in one slot.
    void census(const port& of) {
        std::map<std::uint32_t, int> seen;
        std::size_t slots = 0;
        for (auto& [n, p] : ports_) {
            if (of.shared ? !p.shared : &p != &of) continue;
            for (index_t r = 0; r < p.real->num_tx_rings(); ++r)
                for (index_t i = 0; i < p.m.tx_slots; ++i) ++seen[p.real->tx(r).slot(i).buf_idx], ++slots;
            for (index_t r = 0; r < p.real->num_rx_rings(); ++r)
                for (index_t i = 0; i < p.m.rx_slots; ++i) ++seen[p.real->rx(r).slot(i).buf_idx], ++slots;
        }
        EXPECT_EQ(seen.size(), slots);
        EXPECT_GT(seen.begin()->first, 1U);
        if (of.shared) {
            EXPECT_EQ(region_->bufs().available() + slots, region_->num_bufs() - 2);
        }
    }

    static constexpr std::uint32_t buf_size = 128;
    std::mt19937 random_;
    bool chains_;
    nm::context ctx_;
    nm::vale::port_set set_;
    nm::region_ptr region_;
    vale_switch<by_byte> sw_;
    std::map<std::uint8_t, port> ports_;
    std::uint32_t next_ = 1;
    unsigned names_ = 0;
    std::uint64_t accepted_ = 0, delivered_ = 0, replicas_ = 0;
};

TEST(ValeModel, PlainFrames) {
    for (unsigned seed = 1; seed <= 6; ++seed) model(seed, false).run(600);
}
TEST(ValeModel, Chains) {
    for (unsigned seed = 1; seed <= 6; ++seed) model(100 + seed, true).run(600);
}

}  // namespace
