// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The serving side of a boundary: any open port, driven by what a guest says in its CSB. The guest has the slots and the
// buffers, which are this port's only; the rings' headers, every index and all geometry that count are in private memory.

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "nm/clock.hpp"
#include "nm/port.hpp"
#include "nm/ptnet/csb.hpp"
#include "nm/ptnet/host_memory.hpp"
#include "nm/ptnet/repair.hpp"
#include "nm/ptnet/service.hpp"

namespace nm::ptnet {

struct host_options {
    open_options open{};   ///< for the port; its memory is the boundary's
    bool vnet_hdr = true;  ///< offer the virtio-net header, where the port has one (netmap's ptnet_vnet_hdr)
};

/// A port whose user is on the other side.
template <port_type P>
class served final : public service {
public:
    served(P port, host_memory::place place) : port_(std::move(port)), place_(std::move(place)) {}
    ~served() override {
        lose();
        // Others may have the port open, or open it next: its rings go on with their own headers.
        for (index_t i = 0; i < rings_.size(); ++i) base_of(i).use_header(rings_[i].header);
    }

    /// Lays out what the guest needs to know. Once.
    [[nodiscard]] result<void> begin(std::shared_ptr<host_memory> memory, const host_options& o, index_t tx_rings, index_t rx_rings) {
        memory_ = std::move(memory);
        const unsigned vectors = vectors_of(tx_rings, rx_rings);
        place_.registers->first_vector = memory_->take_vectors(vectors);
        if (auto ok = make_vectors(vectors, place_.registers->first_vector); !ok) return ok;
        const index_t n = tx_rings + rx_rings;
        nm::region& m = *place_.memory;
        std::optional<std::size_t> atok, ktoa;
        {
            const std::lock_guard guard(m.pools());
            atok = m.objects().take(n * sizeof(csb_atok<>));
            ktoa = m.objects().take(n * sizeof(csb_ktoa<>));
        }
        if (!atok || !ktoa) return fail(ENOMEM, port_.name() + ": no room for its status blocks");
        auto* to_host = new (m.base() + *atok) csb_atok<>[n];
        auto* to_guest = new (m.base() + *ktoa) csb_ktoa<>[n];
        headers_ = std::make_unique<ring[]>(n);
        rings_.resize(n);
        port_registers& r = *place_.registers;
        for (index_t i = 0; i < n; ++i) {
            ring_base& b = i < tx_rings ? static_cast<ring_base&>(port_.tx(i)) : port_.rx(i - tx_rings);
            r.ring_offset[i] = static_cast<std::uint32_t>(reinterpret_cast<std::byte*>(&b.shared()) - m.base());
            rings_[i].header = &b.shared();
            b.use_header(&headers_[i]);
            rings_[i].csb = {to_host + i, to_guest + i};
            rings_[i].csb.reset(b.truth().hwcur, b.truth().hwtail);
            if (i >= tx_rings) port_.rx(i - tx_rings).set_timestamps(false);  // the guest's rxsync stamps
        }
        tx_rings_ = tx_rings;
        closed_ = look_at_slots().closed();
        r.bufs_offset = m.bufs_offset();
        r.nifp_offset = static_cast<std::uint64_t>(reinterpret_cast<std::byte*>(port_.nifp()) - m.base());
        r.csb_gh_offset = *atok;
        r.csb_hg_offset = *ktoa;
        r.num_bufs = m.num_bufs();
        r.buf_size = m.buf_size();
        r.num_tx_rings = tx_rings;
        r.num_rx_rings = rx_rings;
        r.num_tx_slots = tx_rings != 0 ? port_.tx(0).num_slots() : 0;
        r.num_rx_slots = rx_rings != 0 ? port_.rx(0).num_slots() : 0;
        if constexpr (has_header) r.features = o.vnet_hdr ? feature_vnet_hdr : 0;
        offered_ = r.features;
        header_ = o.open.vnet_hdr;
        put_mac(r);
        put_text(r.name, port_.name());
        put_text(r.mode, port_.mode());
        set(r.link, 1);
        return {};
    }

    [[nodiscard]] const port_info& info() const noexcept override { return port_.info(); }
    [[nodiscard]] int port_fd() const noexcept override { return port_.fd(); }
    [[nodiscard]] P& port() noexcept { return port_; }

    bool visit() noexcept override {
        bool worked = control();
        if (!running_) return worked;
        for (index_t i = 0; i < tx_rings_; ++i) worked |= visit_tx(i);
        for (index_t i = tx_rings_; i < rings_.size(); ++i) worked |= visit_rx(i);
        return worked;
    }

    [[nodiscard]] bool arm() noexcept override {
        armed_ = true;
        events wanted = events::unsent;
        for (index_t i = 0; i < rings_.size(); ++i) {
            rings_[i].csb.arm();
            if (!running_) continue;
            // The port wakes when there is more than was handed over. It passes over those of its rings that cannot have more; of
            // sending, which most ports are ready for at any time, it is not asked when none can.
            ring_base& b = base_of(i);
            b.set_cur(b.tail());
            if (!b.waits_in_vain()) wanted = wanted | (i < tx_rings_ ? events::tx : events::rx);
        }
        if (running_) port_.arm(wanted);
        if (control_word() != answered_) return false;
        for (index_t i = 0; running_ && i < rings_.size(); ++i)
            if (said_something(rings_[i], base_of(i))) return false;
        return true;
    }
    void disarm() noexcept override {
        if (!std::exchange(armed_, false)) return;
        for (auto& r : rings_) r.csb.disarm();
    }
    [[nodiscard]] bool minds_port() const noexcept override { return running_; }

    [[nodiscard]] service_stats stats() noexcept override {
        service_stats s;
        s.tx = port_.tx_stats();
        s.rx = port_.rx_stats();
        s.kicks = kicks();
        s.wakes = wakes_out_;
        s.bad_indexes = s.tx.reinits + s.rx.reinits;
        s.running = load_once(running_word_) != 0;
        return s;
    }
    [[nodiscard]] result<void> status() override { return port_.status(); }
    void stop() noexcept override {
        running_ = false;
        store_once(running_word_, 0U);
        set(place_.registers->status, static_cast<std::uint32_t>(port_status::idle));
    }
    void lose() noexcept override {
        stop();
        set(place_.registers->link, 0);
        set(place_.registers->status, static_cast<std::uint32_t>(port_status::gone));
        if (vectors() != 0) wake(0);
    }

private:
    static constexpr index_t most_slots = 1024;  // of a ring in one visit
    static constexpr bool has_header = requires(P& p) { p.set_header(12U); };

    struct served_ring {
        csb_server<> csb;
        ring* header = nullptr;         // in the memory that is shared
        csb_indexes refused{~0U, ~0U};  // head and cur that made no sense: not looked at again until they change
    };

    [[nodiscard]] ring_base& base_of(index_t i) noexcept {
        return i < tx_rings_ ? static_cast<ring_base&>(port_.tx(i)) : port_.rx(i - tx_rings_);
    }
    [[nodiscard]] static bool said_something(const served_ring& r, const ring_base& b) noexcept {
        const csb_indexes said = r.csb.read();
        return said.first != b.truth().hwcur && (said.first != r.refused.first || said.second != r.refused.second);
    }
    /// What the guest says becomes what the ring's user says; false when that is nonsense that has been answered already.
    [[nodiscard]] static bool hear(served_ring& r, ring_base& b, csb_indexes& said) noexcept {
        said = r.csb.read();
        if (said.first == r.refused.first && said.second == r.refused.second) [[unlikely]]
            return false;
        r.refused = b.truth().legal(said.first, said.second) ? csb_indexes{~0U, ~0U} : said;
        // A visit is not longer because the ring is: what is beyond is seen by the next one, after the other ports.
        if (const index_t n = ring_distance(b.truth().hwcur, said.first, b.truth().num_slots); n > most_slots && b.truth().legal(said.first, said.second)) {
            said.first = b.truth().hwcur + most_slots;
            if (said.first >= b.truth().num_slots) said.first -= b.truth().num_slots;
        }
        b.set_head(said.first);
        if (said.second != said.first) b.set_cur(said.second);
        return true;
    }
    bool answer(index_t i, const kring& before) noexcept {
        const kring& now = base_of(i).truth();
        if (now.hwcur == before.hwcur && now.hwtail == before.hwtail) return false;
        if (now.hwtail == before.hwtail) rings_[i].csb.acknowledge(now.hwcur);
        else if (rings_[i].csb.publish(now.hwcur, now.hwtail)) wake(1 + i);
        return true;
    }
    [[nodiscard]] bool visit_tx(index_t i) noexcept {
        auto& tx = port_.tx(i);
        const kring before = tx.truth();
        csb_indexes said;
        const bool heard = hear(rings_[i], tx, said);
        // Nothing new, and nothing under way that could come back.
        if ((!heard || said.first == before.hwcur) && tx.next(before.hwtail) == before.hwcur) return false;
        if (!heard) tx.set_head(before.hwcur);
        (void)tx.txsync(sync_flags::force_reclaim);
        return answer(i, before);
    }
    [[nodiscard]] bool visit_rx(index_t i) noexcept {
        auto& rx = port_.rx(i - tx_rings_);
        const kring before = rx.truth();
        csb_indexes said;
        if (!hear(rings_[i], rx, said)) rx.set_head(before.hwcur);
        (void)rx.rxsync();
        return answer(i, before);
    }

    [[nodiscard]] std::uint32_t control_word() const noexcept { return __atomic_load_n(&place_.registers->control, __ATOMIC_ACQUIRE); }
    [[nodiscard]] bool control() noexcept {
        const std::uint32_t word = control_word();
        if (word == answered_) [[likely]]
            return false;
        const bool begins = static_cast<port_control>(word & 0xffU) == port_control::create;
        const std::uint64_t now = system_clock::now_ns();
        if (begins && now < next_begin_) return false;
        obey(word);
        if (begins) {
            const std::uint64_t end = system_clock::now_ns();
            next_begin_ = end + std::min(9 * (end - now), longest_pause_ns);
        }
        return true;
    }
    // Rule R7: to begin is work for the host. Who does so again and again gets a tenth of its time for that.
    static constexpr std::uint64_t longest_pause_ns = 20'000'000;
    // May allocate: a visit that does ends the program when there is no memory at all, as noexcept says.
    [[gnu::noinline, gnu::cold]] void obey(std::uint32_t word) {
        port_registers& r = *place_.registers;
        answered_ = word;
        stop();
        auto status = port_status::idle;
        if (static_cast<port_control>(word & 0xffU) == port_control::create)
            status = !port_.status() ? port_status::gone : create(r) ? port_status::running : port_status::refused;
        if (status == port_status::running) set(r.link, 1);
        set(r.status, static_cast<std::uint32_t>(status));
        __atomic_store_n(&r.answered, word, __ATOMIC_RELEASE);
        wake(0);
    }
    [[nodiscard]] bool create(port_registers& r) {
        const std::uint32_t wanted = load_once(r.wanted) & offered_;
        const std::uint32_t bytes = load_once(r.vnet_hdr_len);
        if constexpr (has_header) {
            const bool on = (wanted & feature_vnet_hdr) != 0;
            if (offered_ != 0 && !port_.set_header(on ? bytes : 0)) return false;
            if (offered_ != 0 && std::exchange(header_, on ? bytes : 0) != (on ? bytes : 0)) discard_received();
        }
        set(r.acked, wanted);
        for (index_t i = 0; i < tx_rings_; ++i) port_.tx(i).abandon();
        slot_repair repair = look_at_slots();
        if (repair.broken() != 0) repair.mend(closed_);
        for (index_t i = 0; i < rings_.size(); ++i) {
            ring_base& b = base_of(i);
            b.set_head(b.truth().hwcur);
            rings_[i].refused = {~0U, ~0U};
            rings_[i].csb.reset(b.truth().hwcur, b.truth().hwtail);
            if (!armed_) rings_[i].csb.disarm();
        }
        running_ = true;
        store_once(running_word_, 1U);
        return true;
    }

    // What came behind another header than the new guest expects would be nonsense to him: it goes nowhere, and is counted.
    void discard_received() noexcept {
        for (index_t i = 0; i < port_.num_rx_rings(); ++i) {
            auto& rx = port_.rx(i);
            std::uint64_t frames = 0;
            for (index_t slots = 0; slots < 2 * rx.num_slots();) {
                const kring now = rx.truth();
                for (index_t at = now.hwcur; at != now.hwtail; at = rx.next(at), ++slots) {
                    const slot s = load_slot(rx.slot(at));
                    frames += s.len != 0 && (s.flags & ns_morefrag) == 0 ? 1U : 0U;
                }
                rx.set_head(now.hwtail);
                if (rx.rxsync() == 0) break;
            }
            rx.live().frames -= frames;
            rx.live().drop(cause::policy, frames);
        }
    }

    [[nodiscard]] slot_repair look_at_slots() {
        slot_repair r(*place_.memory);
        for (index_t i = 0; i < rings_.size(); ++i) r.look_at_ports(base_of(i));
        for (index_t i = 0; i < rings_.size(); ++i) r.look_at_users(base_of(i));
        return r;
    }

    static void set(std::uint32_t& shared, std::uint32_t v) noexcept { __atomic_store_n(&shared, v, __ATOMIC_RELEASE); }
    template <std::size_t N>
    static void put_text(std::array<char, N>& to, const std::string& text) noexcept {
        to.fill(0);
        std::copy_n(text.begin(), std::min(text.size(), N - 1), to.begin());
    }
    void put_mac(port_registers& r) {
        std::array<std::uint8_t, 6> mac{};
        if constexpr (requires { mac = port_.mac(); }) mac = port_.mac();
        else if constexpr (requires { mac = port_.state().link.mac; }) mac = port_.state().link.mac;
        else {
            std::random_device any;
            for (auto& byte : mac) byte = static_cast<std::uint8_t>(any());
            mac[0] = static_cast<std::uint8_t>((mac[0] & 0xfcU) | 2U);  // one of our own making
        }
        r.mac_lo = static_cast<std::uint32_t>(mac[2]) << 24 | static_cast<std::uint32_t>(mac[3]) << 16 | static_cast<std::uint32_t>(mac[4]) << 8 | mac[5];
        r.mac_hi = static_cast<std::uint32_t>(mac[0]) << 8 | mac[1];
    }

    P port_;
    host_memory::place place_;
    std::shared_ptr<host_memory> memory_;
    std::unique_ptr<ring[]> headers_;
    std::vector<served_ring> rings_;
    index_t tx_rings_ = 0;
    std::uint32_t answered_ = 0, offered_ = 0, header_ = 0;
    std::uint32_t running_word_ = 0;  // the same as running_, for other threads
    std::uint64_t next_begin_ = 0;    // not before
    bool running_ = false, armed_ = false;
    bool closed_ = false;  // every buffer in use is in a slot of these rings: no other port's, no kernel's
};

}  // namespace nm::ptnet
