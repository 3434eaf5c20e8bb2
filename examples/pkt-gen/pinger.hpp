// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstring>

#include "common/deserted.hpp"
#include "common/flush.hpp"
#include "common/histogram.hpp"
#include "pacer.hpp"
#include "source.hpp"
#include "worker.hpp"

namespace pkt_gen {

/// What a ping carries in the first 16 bytes of its payload.
struct ping_stamp {
    char magic[4];
    std::uint32_t number;
    std::uint64_t sent_ns;
};
static_assert(sizeof(ping_stamp) == tool::packet::stamp_bytes);

/// -f ping: one packet under way; its time there and back goes into a histogram.
template <class P>
class pinger {
public:
    pinger(P& port, worker& w, tool::histogram& times)
        : port_(port), w_(w), times_(times), packet_(template_packet(w.s)), pace_(w.s.rate, 1) {
        if (port.num_tx_rings() == 0 || port.num_rx_rings() == 0)
            throw tool::run_error(port.name() + ": ping needs tx and rx rings; leave /R and /T out of its name");
    }

    void operator()() {
        w_.began = nm::system_clock::now_ns();
        for (std::uint32_t number = 1; !w_.over(); ++number) {
            while (pace_.allowed(1) == 0 && !w_.run.stopped()) pace_.wait();
            pace_.took(1);
            if (!send(number)) break;
            await(number);
            w_.packets.settle(w_.packets.claim(1), 1);
        }
        w_.ended = nm::system_clock::now_ns();
    }

    [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }

private:
    bool send(std::uint32_t number) {
        tool::desertion nobody(w_.nobody_there);
        while (!w_.run.stopped()) {
            const ping_stamp stamp{{'n', 'm', 'p', 'g'}, number, nm::system_clock::now_ns()};
            std::memcpy(packet_.stamp(), &stamp, sizeof stamp);
            packet_.finish();
            const auto n = nm::generate(port_.tx(0), 1, [bytes = packet_.bytes()](nm::frame& f) noexcept {
                const std::size_t len = std::min<std::size_t>(bytes.size(), f.capacity());
                std::memcpy(f.data(), bytes.data(), len);
                f.resize(static_cast<std::uint16_t>(len));
            });
            if (n != 0) {
                ++sent_;
                return true;
            }
            nobody.stuck(port_);
            w_.rest(port_, nm::events::tx);
        }
        return false;
    }

    void await(std::uint32_t number) {
        const std::uint64_t deadline = nm::system_clock::now_ns() + 1'000'000'000;
        bool answered = false;
        w_.busy();
        while (!answered && !w_.run.stopped()) {
            std::uint64_t took = 0;
            const auto n = nm::drain(port_, 64, [&, at = packet_.payload_at()](nm::frame& f) noexcept {
                if (!f.first() || f.size() < at + sizeof(ping_stamp)) return;
                ping_stamp stamp;
                std::memcpy(&stamp, f.data() + at, sizeof stamp);
                if (std::memcmp(stamp.magic, "nmpg", 4) != 0 || stamp.number != number) return;
                took = nm::system_clock::now_ns() - stamp.sent_ns;
                answered = true;
            });
            if (answered) {
                times_.add(took);
                w_.done.set(times_.count(), times_.count() * *w_.s.length);
                w_.done.event(port_.tx(0).space());
            } else if (n == 0) {
                if (nm::system_clock::now_ns() > deadline) return;
                w_.rest(port_, nm::events::rx);
            }
        }
        if (!answered) --sent_;  // stopped with it under way: neither answered nor lost
        w_.check_sometimes(port_);
    }

    P& port_;
    worker& w_;
    tool::histogram& times_;
    tool::packet packet_;
    pacer pace_;
    std::uint64_t sent_ = 0;
};

/// -f pong: sends each frame back to whom it came from, in the buffer that it came in.
template <class P>
class ponger {
public:
    ponger(P& port, worker& w) : port_(port), w_(w), own_(w.s.src_mac.value_or(tool::mac_address{2, 0, 0, 0, 0, 1})) {
        if (port.num_tx_rings() == 0 || w.rings == 0)
            throw tool::run_error(port.name() + ": pong needs tx and rx rings; leave /R and /T out of its name");
    }

    void operator()() {
        w_.began = nm::system_clock::now_ns();
        while (!w_.over()) {
            const nm::index_t claimed = w_.packets.claim(w_.s.burst);
            nm::index_t n = 0;
            bool room = true;
            std::uint64_t packets = 0;
            std::uint64_t bytes = 0;
            for (nm::index_t i = 0; i < w_.rings; ++i) {
                auto& rx = port_.rx(w_.first_ring + i);
                auto& tx = port_.tx((w_.first_ring + i) % port_.num_tx_rings());
                if (n < claimed) n += nm::forward(rx, tx, claimed - n, [this](nm::frame& f) noexcept { turn(f); });
                packets += rx.stats().frames;
                bytes += rx.stats().bytes;
                room = room && !tx.empty();
            }
            w_.done.set(packets, bytes);
            w_.packets.settle(claimed, n);
            if (n != 0) {
                w_.done.event(0);
                w_.busy();
                w_.check_sometimes(port_);
            } else {
                w_.rest(port_, room ? nm::events::rx : nm::events::tx);
            }
        }
        tool::flush_tx(port_, w_.first_ring, w_.rings);
        w_.ended = nm::system_clock::now_ns();
    }

private:
    // A frame that came to all goes back from one.
    void turn(nm::frame& f) const noexcept {
        if (!f.first() || f.size() < 14) return;
        std::uint8_t* p = f.data();
        tool::mac_address to;
        std::memcpy(to.data(), p + 6, 6);
        if ((p[0] & 1U) != 0)
            std::memcpy(p + 6, own_.data(), 6);
        else
            std::memcpy(p + 6, p, 6);
        std::memcpy(p, to.data(), 6);
    }

    P& port_;
    worker& w_;
    tool::mac_address own_;
};

}  // namespace pkt_gen
