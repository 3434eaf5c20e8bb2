// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "common/deserted.hpp"
#include "common/flush.hpp"
#include "pacer.hpp"
#include "source.hpp"
#include "worker.hpp"

namespace pkt_gen {

/// -f tx on some rings of a port. Packets that are all the same are written once into each buffer and then only sent;
/// packets that differ are copied in; packets over several slots too.
template <class P>
class sender {
public:
    sender(P& port, worker& w, const capture& c) : port_(port), w_(w), pace_(w.s.rate / w.s.threads, w.s.burst) {
        for (nm::index_t i = 0; i < w.rings; ++i) {
            auto& ring = port.tx(w.first_ring + i);
            lanes_.push_back({ring, source(w.s, c, w.first_ring + i, std::max<std::size_t>(1, port.num_tx_rings()))});
        }
        if (lanes_.empty()) throw tool::run_error(port.name() + " has no tx ring here; leave /R out of its name");
        const std::uint32_t buf = lanes_[0].ring.buf_size();
        frag_ = w.s.frag_size != 0 ? std::min(w.s.frag_size, buf) : buf;
        std::size_t longest = *w.s.length;
        for (const auto& p : c.packets) longest = std::max(longest, p.second);
        if (c.packets.empty() && w.s.frags > 1)
            frag_ = std::min<std::uint32_t>(frag_, static_cast<std::uint32_t>((longest + w.s.frags - 1) / w.s.frags));
        const std::size_t slots = (longest + frag_ - 1) / frag_;
        const std::size_t most = std::min<std::size_t>(nm::max_frags, lanes_[0].ring.num_slots() - 2);
        if (slots > most)
            throw tool::run_error(
                fmt::format("{} bytes in pieces of {} take {} slots, and a packet of {} has at most {}; "
                            "use larger pieces (-M) or more slots (-C)",
                            longest, frag_, slots, port.name(), most));
        if (w.s.rubbish && slots > 1)
            throw tool::run_error(fmt::format("-r sends one buffer per packet: at most {} bytes here (-l)", frag_));
        if (w.s.rubbish)
            way_ = way::rubbish;
        else if (slots == 1 && lanes_[0].from.constant() && !w.s.always_copy && !w.s.dump)
            way_ = way::same;
        written_.assign(port.region().num_bufs(), 0);
    }

    void operator()() {
        w_.began = nm::system_clock::now_ns();
        tool::desertion nobody(w_.nobody_there);
        while (!w_.over()) {
            const nm::index_t claimed = w_.packets.claim(w_.s.burst);
            const nm::index_t want = pace_.allowed(claimed);
            const nm::index_t n = want != 0 ? send(want) : 0;
            w_.packets.settle(claimed, n);
            if (n != 0) {
                pace_.took(n);
                nobody.busy();
                w_.busy();
                w_.check_sometimes(port_);
                continue;
            }
            if (want != 0) {
                nobody.stuck(port_);
                w_.rest(port_, nm::events::tx);
            } else if (claimed != 0) {
                pace_.wait();
            } else {
                tool::idle::nap();  // other threads have the last ones
            }
        }
        finish();
        w_.ended = nm::system_clock::now_ns();
    }

private:
    enum class way { copy, same, rubbish };
    struct lane {
        typename P::tx_ring_type& ring;
        source from;
        std::size_t at = 0;  ///< bytes of the packet that are in slots already
    };

    nm::index_t send(nm::index_t want) {
        nm::index_t sent = 0;
        std::uint32_t space = 0;
        std::uint64_t packets = 0;
        std::uint64_t bytes = 0;
        for (auto& l : lanes_) {
            space = std::max(space, l.ring.space());
            if (sent < want) sent += send(l, want - sent);
            packets += l.ring.stats().frames;
            bytes += l.ring.stats().bytes;
        }
        w_.done.set(packets, bytes);
        if (sent != 0) w_.done.event(space);
        return sent;
    }

    nm::index_t send(lane& l, nm::index_t want) {
        switch (way_) {
            case way::same:
                return nm::generate(l.ring, want, [this, bytes = l.from.now()](nm::slot& s) noexcept {
                    if (written_[s.buf_idx] == 0) [[unlikely]]
                        write(s.buf_idx, bytes);
                    s.len = static_cast<std::uint16_t>(bytes.size());
                });
            case way::rubbish:
                return nm::generate(
                    l.ring, want, [n = *w_.s.length](nm::slot& s) noexcept { s.len = static_cast<std::uint16_t>(n); });
            case way::copy: break;
        }
        return nm::generate(l.ring, want, [&l, this](nm::frame& f) noexcept {
            const auto packet = l.from.now();
            const std::size_t n = std::min<std::size_t>(frag_, packet.size() - l.at);
            std::memcpy(f.data(), packet.data() + l.at, n);
            f.resize(static_cast<std::uint16_t>(n));
            l.at += n;
            if (l.at < packet.size())
                f.meta().flags = nm::ns_morefrag;
            else
                l.at = 0;
            if (w_.s.dump) [[unlikely]]
                dump_frame("tx", f);
            if (l.at == 0) l.from.next();
        });
    }

    [[gnu::cold]] void write(std::uint32_t buf_idx, std::span<const std::uint8_t> bytes) noexcept {
        std::memcpy(port_.region().buf(buf_idx), bytes.data(), bytes.size());
        written_[buf_idx] = 1;
    }

    // A packet that was begun is ended, if there is room for it soon.
    void finish() {
        for (auto& l : lanes_)
            for (unsigned tries = 0; l.at != 0 && tries < 1000 && send(l, 1) == 0; ++tries) tool::idle::nap();
        tool::flush_tx(port_, w_.first_ring, w_.rings);
    }

    P& port_;
    worker& w_;
    std::vector<lane> lanes_;
    std::vector<std::uint8_t> written_;  ///< by buffer: holds the packet already
    pacer pace_;
    std::uint32_t frag_ = 0;
    way way_ = way::copy;
};

}  // namespace pkt_gen
