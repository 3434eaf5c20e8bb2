// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "worker.hpp"

namespace pkt_gen {

/// -f rx on some rings of a port.
template <class P>
class receiver {
public:
    receiver(P& port, worker& w) : port_(port), w_(w) {
        if (w.rings == 0) throw tool::run_error(port.name() + " has no rx ring here; leave /T out of its name");
    }

    void operator()() {
        bool received = false;
        std::uint64_t last = nm::system_clock::now_ns();
        w_.began = w_.ended = last;
        while (!w_.over()) {
            const nm::index_t claimed = w_.packets.claim(w_.s.burst);
            const nm::index_t n = receive(claimed);
            w_.packets.settle(claimed, n);
            if (n != 0) {
                if (!received) w_.began = nm::system_clock::now_ns();
                received = true;
                last = 0;
                w_.busy();
                w_.check_sometimes(port_);
                continue;
            }
            if (last == 0) last = w_.ended = nm::system_clock::now_ns();
            if (w_.s.exit_when_quiet && nm::system_clock::now_ns() - last > 1'000'000'000) break;
            w_.rest(port_, nm::events::rx);
        }
        if (last == 0) w_.ended = nm::system_clock::now_ns();
    }

private:
    nm::index_t receive(nm::index_t want) {
        nm::index_t got = 0;
        std::uint32_t space = 0;
        std::uint64_t packets = 0;
        std::uint64_t bytes = 0;
        for (nm::index_t i = 0; i < w_.rings; ++i) {
            auto& ring = port_.rx(w_.first_ring + i);
            if (got < want) got += receive(ring, want - got);
            space = std::max(space, ring.space());
            packets += ring.stats().frames;
            bytes += ring.stats().bytes;
        }
        w_.done.set(packets, bytes);
        if (got != 0) w_.done.event(space);
        return got;
    }

    nm::index_t receive(typename P::rx_ring_type& ring, nm::index_t want) {
        if (w_.s.dump) return nm::drain(ring, want, [](nm::frame& f) noexcept { dump_frame("rx", f); });
        if (w_.s.touch)
            return nm::drain(ring, want, [](nm::frame& f) noexcept {
                const volatile std::uint8_t* p = f.data();
                (void)*p;
            });
        return nm::drain(ring, want);
    }

    P& port_;
    worker& w_;
};

}  // namespace pkt_gen
