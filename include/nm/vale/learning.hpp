// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The switch's default lookup: where a station was last seen sending, there its frames go.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string_view>
#include <vector>

#include "nm/cpu.hpp"
#include "nm/slot.hpp"
#include "nm/vale/keyed_hash.hpp"
#include "nm/vale/lookup.hpp"
#include "nm/vale/mac_table.hpp"

namespace nm::vale {

/// Nanoseconds that only go forward, in steps of some milliseconds: a quarter of the price.
struct coarse_clock {
    [[nodiscard]] static std::uint64_t now_ns() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
        return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
    }
};

struct learning_options {
    std::size_t stations = 100'000;    ///< room for so many
    std::chrono::seconds ageing{300};  ///< a station not heard for so long is forgotten; 0: never
    std::optional<keyed_hash> hash{};  ///< a fixed key, for tests
};

/// What a switch has learnt.
struct station {
    mac_address mac;
    port_number port;
    bool is_static;
    std::chrono::nanoseconds age;  ///< since it was last heard, in steps of 1/64 of the ageing time
};

/// Learns where stations are, for as long as they are heard at least once in the ageing time. A station that moves is
/// learnt anew with its first frame there. What is not known, or not any more, goes to all ports. No port can make the
/// switch forget the stations of others (mac_table: fairness), nor use the address of a static or secured one.
///
/// A station is refreshed once per tick (1/64 of the ageing time), else a known source costs one look into its set, and
/// the source and destination of the last frame of a ring nothing: `stamp_` changes with each tick and whenever a station
/// is somewhere else than before, and a lane forgets what it remembers when it finds another stamp before a batch.
/// All but operator(), begin and prefetch may be called from any one thread at a time while traffic is running.
template <class Clock = coarse_clock>
class basic_learning {
public:
    /// The last frame of a transmit ring.
    class lane {
        friend basic_learning;
        static constexpr std::uint64_t nobody = ~std::uint64_t{0};
        std::uint64_t source = nobody;       // address and port
        std::uint64_t destination = nobody;  // address
        std::uint64_t tick = 0;              // as in an entry
        std::uint64_t stamp = 0;
        port_number port = 0;      // the destination's
        std::uint8_t batches = 0;  // until the clock is read again
    };

    explicit basic_learning(const learning_options& o = {}) noexcept
        : table_(o.stations, o.hash ? *o.hash : keyed_hash::random()), last_ns_(Clock::now_ns()) {
        secure_.fill(open);
        ageing(o.ageing);
    }

    /// Before each batch. Reads the clock in one of 16: at batches of one frame it would cost as much as the lookup.
    [[gnu::always_inline]] void begin(lane& l) noexcept {
        if (l.batches-- == 0) {
            l.batches = batches_per_clock - 1;
            refresh();
        }
        // (L1) acquire: with a new stamp comes the entry that it was changed for.
        if (const std::uint64_t s = __atomic_load_n(&stamp_, __ATOMIC_ACQUIRE); s != l.stamp) {
            l.stamp = s;
            l.tick = (s & 0xffU) << mac_entry::tick_shift;
            l.source = l.destination = lane::nobody;
        }
    }

    [[nodiscard]] [[gnu::always_inline]] destination operator()(const packet& p, lane& l) noexcept {
        const std::uint64_t to = load_mac(p.data), source = load_mac(p.data + 6);
        const std::uint64_t from = source | static_cast<std::uint64_t>(p.from) << mac_entry::port_shift;
        if (from != l.source) {
            const mac_entry e = table_.find(source);
            if (!e || (e.word & ~mac_entry::static_bit) != (from | l.tick)) [[unlikely]] {
                if (!learn(p.flags, from, l)) return destination::drop();
            } else {
                l.source = from;
            }
        }
        if (to != l.destination) {
            if ((to & 1) != 0) return destination::to_all();
            const mac_entry e = table_.find(to);
            if (!e || e.expired(now(l))) return destination::to_all();
            l.destination = to;
            l.port = e.port();
        }
        return destination::to(l.port);
    }

    /// Optional, some frames ahead: the table of 10^5 stations is larger than a core's nearer caches.
    [[gnu::always_inline]] void prefetch(const packet& p) const noexcept {
        if (!table_.crowded()) return;
        table_.prefetch(load_mac(p.data));
        table_.prefetch(load_mac(p.data + 6));
    }

    void detached(port_number p) noexcept {
        store_once(secure_[p], open);
        table_.limit(p, mac_table::no_limit);
        forget(p);
    }

    // What may be set.
    void ageing(std::chrono::seconds s) noexcept {
        const auto ns = std::chrono::nanoseconds(s).count() / mac_entry::lifetime;
        store_once(tick_ns_, ns > 0 ? static_cast<std::uint64_t>(ns) : never);
    }
    /// How many stations a port may have. Further ones take the places of its own, or stay unknown.
    void limit(port_number p, std::uint32_t stations) noexcept { table_.limit(p, stations); }
    /// A station that is at this port whatever is heard from it; frames that have its address elsewhere are dropped.
    bool add_static(const mac_address& a, port_number p) noexcept {
        const bool done = valid(mac_word(a)) && table_.pin(mac_word(a), p, now());
        changed();
        return done;
    }
    bool remove(const mac_address& a) noexcept {
        const bool found = table_.remove(mac_word(a));
        changed();
        return found;
    }
    /// All stations of a port.
    void forget(port_number p) noexcept {
        table_.remove_if([p](mac_entry e) noexcept { return e.port() == p; });
        changed();
    }
    /// Only the first station that is seen at this port from now on may send there, and its address nowhere else. An address
    /// that is in use at another port is not taken from there. Static stations of the port may send as well.
    void secure(port_number p) noexcept {
        store_once(secure_[p], awaited);
        forget(p);
    }
    /// The same with the station known beforehand.
    bool secure(port_number p, const mac_address& a) noexcept {
        if (!valid(mac_word(a))) return false;
        store_once(secure_[p], mac_word(a));
        forget(p);
        return add_static(a, p);
    }
    void unsecure(port_number p) noexcept {
        store_once(secure_[p], open);
        forget(p);
    }

    // What there is to see.
    [[nodiscard]] bool is_secured(port_number p) const noexcept { return load_once(secure_[p]) != open; }
    /// Where frames for this address go now, if they do not go to all.
    [[nodiscard]] std::optional<port_number> where(const mac_address& a) const noexcept {
        const mac_entry e = table_.find(mac_word(a));
        if (!e || e.expired(now())) return {};
        return e.port();
    }
    [[nodiscard]] std::vector<station> stations() const {
        std::vector<station> all;
        const std::uint8_t t = now();
        table_.for_each([&](mac_entry e) {
            const auto age =
                std::chrono::nanoseconds(e.age(t) * std::min<std::uint64_t>(load_once(tick_ns_), never / 256));
            if (!e.expired(t)) all.push_back({to_mac(e.mac()), e.port(), e.is_static(), age});
        });
        return all;
    }
    [[nodiscard]] std::uint32_t stations(port_number p) const noexcept { return table_.stations(p); }
    [[nodiscard]] mac_table_stats stats() const noexcept { return table_.stats(); }
    [[nodiscard]] std::size_t capacity() const noexcept { return table_.capacity(); }

    static constexpr unsigned batches_per_clock = 16;

private:
    static constexpr std::uint64_t never = 0x7fffffffffffffffU;
    static constexpr std::uint64_t open = ~std::uint64_t{0}, awaited = open - 1;  // no addresses; else the address

    [[nodiscard]] static bool valid(std::uint64_t mac) noexcept { return (mac & 1) == 0 && mac != 0; }
    [[nodiscard]] static std::uint8_t now(const lane& l) noexcept {
        return static_cast<std::uint8_t>(l.tick >> mac_entry::tick_shift);
    }
    [[nodiscard]] std::uint8_t now() const noexcept { return static_cast<std::uint8_t>(load_once(stamp_)); }
    // (L1) release: what was changed in the table is seen by whoever sees the new stamp.
    void changed() noexcept { __atomic_fetch_add(&stamp_, std::uint64_t{1} << 32, __ATOMIC_RELEASE); }

    [[gnu::noinline]] void refresh() noexcept {
        const std::uint64_t t = Clock::now_ns(), step = load_once(tick_ns_);
        std::uint64_t last = load_once(last_ns_);
        if (t < last || t - last < step) return;
        const std::uint64_t ticks = (t - last) / step;
        if (!__atomic_compare_exchange_n(&last_ns_, &last, last + ticks * step, false, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
            return;
        // Swept before the tick is counted: until then nobody takes an old entry for a young one, however long it was quiet.
        const std::uint64_t counted = std::min<std::uint64_t>(ticks, mac_entry::lifetime + 1);
        table_.sweep(counted, static_cast<std::uint8_t>(now() + counted));
        __atomic_fetch_add(&stamp_, counted, __ATOMIC_RELEASE);
    }

    /// A source that is not the ring's last one, nor in the table just like this. False: it may not send here.
    [[gnu::noinline]] [[gnu::cold]] bool learn(std::uint16_t flags, std::uint64_t from, lane& l) noexcept {
        const std::uint64_t mac = from & 0xffffffffffffU;
        const auto port = static_cast<port_number>(from >> mac_entry::port_shift);
        if (const std::uint64_t only = load_once(secure_[port]); only != open && only != mac && !bind(mac, port, flags))
            return table_.count_refused(), false;
        if (!valid(mac) || (flags & ns_no_learn) != 0) return true;
        l.destination = lane::nobody;  // it may be this one that has moved
        switch (table_.learn(mac, port, now(l))) {
            case mac_table::outcome::spoofed: return false;
            case mac_table::outcome::moved:
            case mac_table::outcome::lost: changed(); break;
            default: break;
        }
        l.source = from;  // one that was refused, too: it is tried again at the next tick
        return true;
    }

    /// Whether this is, or becomes now, a station of a secured port.
    [[nodiscard]] bool bind(std::uint64_t mac, port_number port, std::uint16_t flags) noexcept {
        const mac_entry here = table_.find(mac);
        if (here && here.is_static() && here.port() == port) return true;  // put there by hand
        if (load_once(secure_[port]) != awaited || !valid(mac) || (flags & ns_no_learn) != 0) return false;
        if (here && here.port() != port && !here.expired(now())) return false;
        std::uint64_t expected = awaited;
        if (!__atomic_compare_exchange_n(&secure_[port], &expected, mac, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return expected == mac;
        // Without room in its set its frames flood; the port is bound anyway.
        static_cast<void>(table_.pin(mac, port, now()));
        changed();
        return true;
    }

    mac_table table_;
    alignas(cache_line) std::uint64_t stamp_ = 1;  ///< bits 0 to 31: the tick, 32 to 63: changes
    std::uint64_t tick_ns_ = never;
    std::uint64_t last_ns_;
    std::array<std::uint64_t, 256> secure_;
};

using learning = basic_learning<>;
static_assert(vale_lookup<learning>);

}  // namespace nm::vale
