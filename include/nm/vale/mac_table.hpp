// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Which station is at which port. One 64-byte line is a set of eight stations; a station is one 64-bit word, written by
// compare-and-swap only, so that any number of threads read and write without a lock and none sees half an entry.
// Of a station's address bit 0 (the first byte's multicast bit) is always 0 and its place marks static entries.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "nm/base/os.hpp"
#include "nm/cpu.hpp"
#include "nm/vale/keyed_hash.hpp"
#include "nm/vale/lookup.hpp"
#include "nm/vale/peek.hpp"

namespace nm::vale {

using mac_address = std::array<std::uint8_t, 6>;

/// An address as a word, in the order in which it lies in a frame: the low 48 bits.
[[nodiscard]] constexpr std::uint64_t mac_word(const mac_address& a) noexcept {
    std::uint64_t w = 0;
    for (std::size_t i = 0; i < 6; ++i) w |= static_cast<std::uint64_t>(a[i]) << (8 * i);
    return w;
}
[[nodiscard]] constexpr mac_address to_mac(std::uint64_t word) noexcept {
    mac_address a{};
    for (std::size_t i = 0; i < 6; ++i) a[i] = static_cast<std::uint8_t>(word >> (8 * i));
    return a;
}
/// The same out of a frame, by one load: eight bytes, of which a frame has enough behind either address.
[[nodiscard]] [[gnu::always_inline]] inline std::uint64_t load_mac(const std::uint8_t* p) noexcept {
    return peek<std::uint64_t>(p) & 0xffffffffffffU;
}

/// An entry of the table.
struct mac_entry {
    std::uint64_t word =
        0;  ///< bit 0: static; 1 to 47: address; 48 to 55: port; 56 to 63: tick when last seen. 0: nobody

    static constexpr std::uint64_t static_bit = 1, mac_bits = 0xfffffffffffeU;
    static constexpr unsigned port_shift = 48, tick_shift = 56;
    /// Older than this many ticks is expired. The table is swept once in as many, so that no tick ever wraps unseen.
    static constexpr unsigned lifetime = 64;

    [[nodiscard]] static constexpr mac_entry make(std::uint64_t mac, port_number port, std::uint8_t tick) noexcept {
        return {mac | static_cast<std::uint64_t>(port) << port_shift | static_cast<std::uint64_t>(tick) << tick_shift};
    }
    [[nodiscard]] constexpr std::uint64_t mac() const noexcept { return word & mac_bits; }
    [[nodiscard]] constexpr port_number port() const noexcept { return static_cast<port_number>(word >> port_shift); }
    [[nodiscard]] constexpr bool is_static() const noexcept { return (word & static_bit) != 0; }
    [[nodiscard]] constexpr unsigned age(std::uint8_t now) const noexcept {
        return static_cast<std::uint8_t>(now - static_cast<std::uint8_t>(word >> tick_shift));
    }
    [[nodiscard]] constexpr bool expired(std::uint8_t now) const noexcept {
        return age(now) > lifetime && !is_static();
    }
    [[nodiscard]] constexpr bool is(std::uint64_t mac) const noexcept { return ((word ^ mac) & mac_bits) == 0; }
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return word != 0; }
};

/// What happened in a table so far, each written at a rare event.
struct mac_table_stats {
    std::uint64_t learnt = 0;
    std::uint64_t moved = 0;
    std::uint64_t refused = 0;  ///< not learnt: no room that it had a right to, the port's limit, or a spoofed address
    std::uint64_t expired = 0;
    std::uint64_t evicted = 0;  ///< made room for another one
};

class mac_table {
public:
    static constexpr std::size_t ways = 8, sets_per_page = 64;
    enum class outcome : std::uint8_t {
        known,
        learnt,
        moved,
        refused,  ///< no room that its port has a right to
        lost,     ///< moved to a port that may have no more: it is nowhere now
        spoofed,  ///< static at another port
    };

    /// Room for so many stations; up to half as full as that next to none finds its set full. Memory is touched as it is
    /// used. A table that gets no memory (capacity() is 0) learns nothing, and all frames flood.
    explicit mac_table(std::size_t stations, keyed_hash hash) noexcept : hash_(hash) {
        const std::size_t pages = std::bit_ceil(stations / (2 * sets_per_page) + 1);
        const std::size_t marks = (pages + 63) / 64 * sizeof(std::uint64_t);
        void* p =
            ::mmap(nullptr, pages * page_size + marks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return;
        memory_ = base::mapping(p, pages * page_size + marks);
        sets_ = reinterpret_cast<set*>(memory_.data());
        used_ = reinterpret_cast<std::uint64_t*>(memory_.data() + pages * page_size);
        pages_ = pages;
        mask_ = pages * sets_per_page - 1;
    }
    mac_table(const mac_table&) = delete;
    mac_table& operator=(const mac_table&) = delete;

    [[nodiscard]] std::size_t capacity() const noexcept { return pages_ * sets_per_page * ways; }

    /// The station's entry, expired or not; none (false) for those that are not there.
    [[nodiscard]] [[gnu::always_inline]] mac_entry find(std::uint64_t mac) const noexcept {
        const set& s = set_of(mac);
        if (crowded()) return find_in_crowd(s, mac);
        for (const auto& way : s.words)
            if (const mac_entry e{load_once(way)}; e.is(mac)) return e;
        return {};
    }
    /// Sets often have more than one station; in a table of the default size also: their lines fill a core's own caches.
    [[nodiscard]] [[gnu::always_inline]] bool crowded() const noexcept { return load_once(crowded_); }
    /// For lookups that come soon. Not worth it while the table is not crowded.
    [[gnu::always_inline]] void prefetch(std::uint64_t mac) const noexcept { prefetch_read(&set_of(mac)); }

    /// A frame from `mac` (unicast, not zero) has come in at `port`.
    outcome learn(std::uint64_t mac, port_number port, std::uint8_t now) noexcept {
        const auto how = put(mac_entry::make(mac, port, now), now);
        if (how == outcome::learnt) count(stats_.learnt);
        if (how == outcome::moved) count(stats_.moved);
        if (how >= outcome::refused) count(stats_.refused);
        return how;
    }
    /// A station that is at `port` and nowhere else, and stays. False when its set is full of static ones.
    bool pin(std::uint64_t mac, port_number port, std::uint8_t now) noexcept {
        remove(mac);
        const mac_entry e{mac_entry::make(mac, port, now).word | mac_entry::static_bit};
        return put(e, now) < outcome::refused;
    }
    bool remove(std::uint64_t mac) noexcept {
        bool found = false;
        for (auto& way : set_of(mac).words)
            if (const mac_entry e{load_once(way)}; e && e.is(mac)) found |= clear(way, e);
        return found;
    }
    template <class Predicate>
    void remove_if(Predicate predicate) noexcept {
        visit(0, pages_, [&](std::uint64_t& way, mac_entry e) noexcept {
            if (predicate(e)) clear(way, e);
        });
    }

    /// Takes out what has expired in the next `ticks`/64 of the table, all of it when they are more.
    void sweep(std::uint64_t ticks, std::uint8_t now) noexcept {
        if (pages_ == 0) return;
        const std::size_t n =
            ticks >= mac_entry::lifetime ? pages_ : (pages_ * ticks + mac_entry::lifetime - 1) / mac_entry::lifetime;
        const std::size_t first = __atomic_fetch_add(&swept_, n, __ATOMIC_RELAXED);
        visit(first, n, [&](std::uint64_t& way, mac_entry e) noexcept {
            if (e.expired(now) && clear(way, e)) count(stats_.expired);
        });
        if (crowded() && load_once(entries_) <= mask_ / 8) store_once(crowded_, false);
    }
    template <class Function>
    void for_each(Function function) const {
        const_cast<mac_table*>(this)->visit(0, pages_, [&](std::uint64_t&, mac_entry e) { function(e); });
    }

    static constexpr std::uint32_t no_limit = 0xffffffffU;
    /// How many stations a port may have; those that it has already may stay.
    void limit(port_number p, std::uint32_t stations) noexcept { store_once(ports_[p].limit, stations); }
    [[nodiscard]] std::uint32_t stations(port_number p) const noexcept { return load_once(ports_[p].stations); }
    [[nodiscard]] mac_table_stats stats() const noexcept {
        return {load_once(stats_.learnt), load_once(stats_.moved), load_once(stats_.refused), load_once(stats_.expired),
                load_once(stats_.evicted)};
    }
    void count_refused() noexcept { count(stats_.refused); }

private:
    struct alignas(cache_line) set {
        std::array<std::uint64_t, ways> words{};
    };
    static constexpr std::size_t page_size = sets_per_page * sizeof(set);
    struct port_state {
        std::uint32_t stations = 0;
        std::uint32_t limit = no_limit;
    };

    [[nodiscard]] [[gnu::always_inline]] set& set_of(std::uint64_t mac) const noexcept {
        return sets_[hash_(mac) & mask_];
    }
    /// All ways without a branch: which of several it is nobody can predict, and a branch taken wrong costs more than all
    /// of this. (Where the first is it nearly always, the loop in find() takes a third of the time.)
    [[nodiscard]] [[gnu::always_inline]] static mac_entry find_in_crowd(const set& s, std::uint64_t mac) noexcept {
#if defined(__AVX512F__) && !defined(__SANITIZE_THREAD__)
        // The vector only says where to look: what counts is one word, loaded after that.
        const __m512i differs = _mm512_xor_si512(_mm512_load_si512(&s), _mm512_set1_epi64(static_cast<long long>(mac)));
        const unsigned hits =
            _mm512_testn_epi64_mask(differs, _mm512_set1_epi64(static_cast<long long>(mac_entry::mac_bits)));
        if (hits == 0) return {};
        const mac_entry e{load_once(s.words[static_cast<std::size_t>(std::countr_zero(hits))])};
        return e.is(mac) ? e : mac_entry{};
#else
        mac_entry found;
        for (std::size_t i = ways; i-- != 0;) {
            const mac_entry e{load_once(s.words[i])};
            found.word = e.is(mac) ? e.word : found.word;
        }
        return found;
#endif
    }
    static void count(std::uint64_t& n) noexcept { __atomic_fetch_add(&n, 1, __ATOMIC_RELAXED); }

    /// What was never written is not looked at: reading it would take memory too.
    template <class Function>
    void visit(std::size_t first, std::size_t n, Function function) {
        for (std::size_t k = 0; k < n; ++k) {
            const std::size_t page = (first + k) & (pages_ - 1);
            if ((load_once(used_[page / 64]) >> (page % 64) & 1U) == 0) continue;
            for (std::size_t i = page * sets_per_page; i < (page + 1) * sets_per_page; ++i)
                for (auto& way : sets_[i].words)
                    if (const mac_entry e{load_once(way)}; e) function(way, e);
        }
    }
    void mark_used(const set& s) noexcept {
        const std::size_t page = static_cast<std::size_t>(&s - sets_) / sets_per_page;
        const std::uint64_t bit = std::uint64_t{1} << (page % 64);
        if ((load_once(used_[page / 64]) & bit) == 0) __atomic_fetch_or(&used_[page / 64], bit, __ATOMIC_RELAXED);
    }

    // Each entry is counted for its port; a port's own limit is kept even when several of its rings learn at a time.
    [[nodiscard]] bool take_place(port_number p) noexcept {
        if (__atomic_fetch_add(&ports_[p].stations, 1, __ATOMIC_RELAXED) < load_once(ports_[p].limit)) return true;
        give_place(p);
        return false;
    }
    void give_place(port_number p) noexcept { __atomic_fetch_sub(&ports_[p].stations, 1, __ATOMIC_RELAXED); }
    /// A place that a static entry takes is counted, and never refused.
    [[nodiscard]] bool take_place_for(mac_entry e) noexcept {
        if (!e.is_static()) return take_place(e.port());
        __atomic_fetch_add(&ports_[e.port()].stations, 1, __ATOMIC_RELAXED);
        return true;
    }
    [[nodiscard]] static bool swap(std::uint64_t& way, mac_entry from, mac_entry to) noexcept {
        // A full barrier, so that of two threads that put the same station at least one sees both in drop_copies().
        return __atomic_compare_exchange_n(&way, &from.word, to.word, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    bool clear(std::uint64_t& way, mac_entry e) noexcept {
        if (!swap(way, e, {})) return false;
        give_place(e.port());
        __atomic_fetch_sub(&entries_, 1, __ATOMIC_RELAXED);
        return true;
    }

    [[gnu::noinline]] outcome put(mac_entry wanted, std::uint8_t now) noexcept {
        if (pages_ == 0) return outcome::refused;
        set& s = set_of(wanted.mac());
        for (std::size_t tries = 0; tries < ways; ++tries) {  // each failure is another thread's success
            std::uint64_t* free = nullptr;
            std::uint64_t* here = nullptr;
            for (auto& way : s.words) {
                const mac_entry e{load_once(way)};
                if (e && e.is(wanted.mac())) here = here ? here : &way;
                if (!e || e.expired(now)) free = free ? free : &way;
            }
            outcome done{};
            if (here ? renew(*here, wanted, done) : insert(s, free, wanted, now, done)) return done;
        }
        return outcome::refused;
    }

    /// False: another thread was first, look again.
    bool renew(std::uint64_t& way, mac_entry wanted, outcome& done) noexcept {
        const mac_entry old{load_once(way)};
        if (!old || !old.is(wanted.mac())) return false;
        if (old.port() == wanted.port()) {
            done = outcome::known;
            return swap(way, old, {wanted.word | (old.word & mac_entry::static_bit)});
        }
        if (old.is_static()) return done = outcome::spoofed, true;
        if (!take_place_for(wanted)) return done = outcome::lost, clear(way, old);
        done = outcome::moved;
        const bool swapped = swap(way, old, wanted);
        give_place(swapped ? old.port() : wanted.port());
        return swapped;
    }

    bool insert(set& s, std::uint64_t* free, mac_entry wanted, std::uint8_t now, outcome& done) noexcept {
        // Where the port has reached its limit, one of its own stations makes room.
        const bool placed = take_place_for(wanted);
        std::uint64_t* way = placed && free ? free : least_entitled(s, wanted, now, placed);
        done = way ? outcome::learnt : outcome::refused;
        const mac_entry old{way ? load_once(*way) : 0};
        const bool sure = way && (placed ? !old.is_static() : old && !old.is_static() && old.port() == wanted.port());
        const bool swapped = sure && swap(*way, old, wanted);
        if (swapped && old) count(old.expired(now) ? stats_.expired : stats_.evicted);
        if (placed && (!swapped || old)) give_place(swapped ? old.port() : wanted.port());
        if (!swapped) return way == nullptr;
        mark_used(s);
        if (!old) __atomic_fetch_add(&entries_, 1, __ATOMIC_RELAXED);
        if (!crowded() && load_once(entries_) > mask_ / 4) store_once(crowded_, true);
        drop_copies(s, wanted.mac());
        return true;
    }

    /// Whose place a newcomer takes in a full set: the oldest of a port that has more here than the newcomer's port would
    /// have, or of its own port. So whatever one port sends, what others have had before stays.
    [[nodiscard]] static std::uint64_t* least_entitled(set& s, mac_entry wanted, std::uint8_t now,
                                                       bool any_port) noexcept {
        std::array<mac_entry, ways> e;
        for (std::size_t i = 0; i < ways; ++i) e[i].word = load_once(s.words[i]);
        const auto of = [&e](port_number p) {
            unsigned n = 0;
            for (const auto x : e) n += x && x.port() == p ? 1U : 0U;
            return n;
        };
        const unsigned own = of(wanted.port());
        std::uint64_t* found = nullptr;
        unsigned most = 0;
        for (std::size_t i = 0; i < ways; ++i) {
            if (!e[i] || e[i].is_static()) continue;
            const bool mine = e[i].port() == wanted.port();
            if (!mine && !any_port) continue;
            const unsigned n = of(e[i].port());
            if (!mine && !wanted.is_static() && n <= own + 1) continue;
            const unsigned score = (mine ? 0 : n * 256) + e[i].age(now) + 1;
            if (score > most) most = score, found = &s.words[i];
        }
        return found;
    }

    /// Two threads may have put one station into two places of its set: one of them stays, a static one if there is one.
    /// Sequentially consistent, as swap() is: at least one of the two sees both.
    void drop_copies(set& s, std::uint64_t mac) noexcept {
        const auto load = [](const std::uint64_t& w) noexcept {
            return mac_entry{__atomic_load_n(&w, __ATOMIC_SEQ_CST)};
        };
        const std::uint64_t* keep = nullptr;
        for (const auto& way : s.words)
            if (const auto e = load(way); e && e.is(mac) && (keep == nullptr || e.is_static())) keep = &way;
        for (auto& way : s.words)
            for (std::size_t tries = 0; &way != keep && tries < ways; ++tries)  // it may be renewed meanwhile
                if (const auto e = load(way); !e || !e.is(mac) || clear(way, e)) break;
    }

    keyed_hash hash_;
    set* sets_ = &none_;
    std::size_t pages_ = 0;
    std::size_t mask_ = 0;
    std::uint64_t* used_ = nullptr;
    bool crowded_ = false;
    base::mapping memory_;
    set none_;
    alignas(cache_line) std::array<port_state, 256> ports_{};
    alignas(cache_line) mac_table_stats stats_;
    std::size_t swept_ = 0;
    std::size_t entries_ = 0;
};

}  // namespace nm::vale
