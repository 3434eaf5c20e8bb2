// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One port of a bridge, whatever kind it is: what is done once a batch or more seldom, behind virtual functions. What is done
// for each frame is in a mover, made for two kinds at once.

#include <algorithm>
#include <memory>
#include <type_traits>

#include "common/account.hpp"
#include "common/idle.hpp"
#include "common/open.hpp"
#include "common/report.hpp"
#include "by_hand.hpp"

namespace bridge {

class side {
public:
    virtual ~side() = default;
    virtual void throw_if_lost() = 0;
    /// Whether each tx ring has room: where one has none, waiting for more to send would not be waiting.
    [[nodiscard]] virtual bool has_room() noexcept = 0;
    /// What has gone into the port so far: nobody else sends there.
    virtual void look_at(tool::tally& t, nm::index_t moved) noexcept = 0;
    /// What was queued gets to go out, as long as some of it still does.
    virtual void flush() = 0;

    // nm::wait, in two parts: look, with a sync of the rings; arm, before sleeping on fd().
    [[nodiscard]] virtual nm::events look(nm::events wanted) = 0;
    virtual void arm(nm::events wanted) noexcept = 0;
    [[nodiscard]] virtual int fd() const noexcept = 0;

    // A ring, synced.
    [[nodiscard]] virtual nm::index_t num_rx_rings() const noexcept = 0;
    [[nodiscard]] virtual nm::index_t num_tx_rings() const noexcept = 0;
    [[nodiscard]] virtual nm::ring_base& received(nm::index_t ring) noexcept = 0;
    [[nodiscard]] virtual nm::ring_base& room(nm::index_t ring) noexcept = 0;
    virtual void send(nm::index_t ring) noexcept = 0;
};

template <class P>
class side_of final : public side {
public:
    explicit side_of(P& port) noexcept : port_(port) {}
    [[nodiscard]] P& port() noexcept { return port_; }

    void throw_if_lost() override {
        if (auto ok = port_.status(); !ok) throw tool::run_error(ok.error().text);
    }
    [[nodiscard]] bool has_room() noexcept override {
        for (nm::index_t i = 0; i < port_.num_tx_rings(); ++i)
            if (port_.tx(i).empty()) return false;
        return true;
    }
    void look_at(tool::tally& t, nm::index_t moved) noexcept override {
        std::uint64_t packets = 0;
        std::uint64_t bytes = 0;
        std::uint32_t space = 0;
        for (nm::index_t i = 0; i < port_.num_tx_rings(); ++i) {
            const auto& ring = port_.tx(i);
            packets += ring.stats().frames;
            bytes += ring.stats().bytes;
            space = std::max(space, ring.space());
        }
        t.set(packets, bytes);
        if (moved != 0) t.event(space);
    }
    void flush() override {
        std::uint64_t before = 0;
        std::uint64_t since = nm::system_clock::now_ns();
        for (;;) {
            std::uint64_t waiting = 0;
            for (nm::index_t i = 0; i < port_.num_tx_rings(); ++i) {
                (void)port_.tx(i).txsync();
                waiting += tool::pending_slots(port_.tx(i));
            }
            const std::uint64_t now = nm::system_clock::now_ns();
            if (waiting != before) since = now;
            if (waiting == 0 || now - since > 500'000'000) return;
            before = waiting;
            tool::idle::nap();
        }
    }
    [[nodiscard]] nm::events look(nm::events wanted) override { return nm::wait(port_, wanted, std::chrono::milliseconds(0)); }
    void arm(nm::events wanted) noexcept override { port_.arm(wanted | nm::events::unsent); }
    [[nodiscard]] int fd() const noexcept override { return port_.fd(); }
    [[nodiscard]] nm::index_t num_rx_rings() const noexcept override { return port_.num_rx_rings(); }
    [[nodiscard]] nm::index_t num_tx_rings() const noexcept override { return port_.num_tx_rings(); }
    [[nodiscard]] nm::ring_base& received(nm::index_t ring) noexcept override {
        (void)port_.rx(ring).rxsync();
        return port_.rx(ring);
    }
    [[nodiscard]] nm::ring_base& room(nm::index_t ring) noexcept override {
        if (port_.tx(ring).empty()) (void)port_.tx(ring).txsync();
        return port_.tx(ring);
    }
    void send(nm::index_t ring) noexcept override { (void)port_.tx(ring).txsync(); }

private:
    P& port_;
};

/// Moves up to `max` slots per ring from one port to another; the frames that ended in them.
using mover = nm::index_t (*)(side& from, side& to, nm::index_t max) noexcept;

/// For two ports of any kinds, as a netmap program does it by hand: the rings are all alike.
inline nm::index_t move_by_hand(side& from, side& to, nm::index_t max) noexcept {
    nm::index_t frames = 0;
    const nm::index_t outputs = to.num_tx_rings();
    for (nm::index_t i = 0; i < from.num_rx_rings() && outputs != 0; ++i) {
        nm::ring_base& rx = from.received(i);
        nm::ring_base& tx = to.room(i % outputs);
        frames += move_frames(rx, tx, max);
        to.send(i % outputs);
        (void)from.received(i);
    }
    return frames;
}

/// Each pair of kinds has a loop of its own, except for NICs of different kinds, or a NIC and something else: these pairs
/// are many, and each costs the compiler two seconds.
template <class A, class B>
[[nodiscard]] mover mover_for() noexcept {
    if constexpr (std::is_same_v<A, B> || !(tool::is_nic<A> || tool::is_nic<B>))
        return [](side& from, side& to, nm::index_t max) noexcept {
            return nm::forward(static_cast<side_of<A>&>(from).port(), static_cast<side_of<B>&>(to).port(), max);
        };
    else return move_by_hand;
}

}  // namespace bridge
