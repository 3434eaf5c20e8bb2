// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The communication status block: how two sides that do not trust each other, and share nothing but memory and doorbells,
// pass a ring's indexes and keep each other from ringing in vain. One implementation for every boundary between processes
// and virtual machines. The user of a ring writes `atok`, its server `ktoa`; each keeps its own truth and checks what it
// reads. Layout and orders: netmap_virt.h's nm_csb_atok and nm_csb_ktoa (semantics section 12).

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "nm/ring.hpp"

namespace nm::ptnet {

/// Where the two sides' accesses meet. Each is one argument of the memory policy, so that a test can weaken one at a time.
enum class csb_order { publish_user, read_user, publish_server, read_server, user_kicks, user_sleeps, server_kicks, server_sleeps };

/// The real thing. A model checker brings another one (tests/model).
struct csb_memory {
    using word = std::uint32_t;

    [[nodiscard]] [[gnu::always_inline]] static std::uint32_t load(const word& w) noexcept { return __atomic_load_n(&w, __ATOMIC_RELAXED); }
    [[gnu::always_inline]] static void store(word& w, std::uint32_t v) noexcept { __atomic_store_n(&w, v, __ATOMIC_RELAXED); }
    template <csb_order>
    [[nodiscard]] [[gnu::always_inline]] static std::uint32_t load_acquire(const word& w) noexcept { return __atomic_load_n(&w, __ATOMIC_ACQUIRE); }
    template <csb_order>
    [[gnu::always_inline]] static void store_release(word& w, std::uint32_t v) noexcept { __atomic_store_n(&w, v, __ATOMIC_RELEASE); }
    template <csb_order>
    [[gnu::always_inline]] static void full_fence() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }
};

/// Application to kernel: what the user of the ring says. 64 bytes.
template <class Memory = csb_memory>
struct alignas(64) csb_atok {
    typename Memory::word head{};            ///< first slot that the user has not handed over
    typename Memory::word cur{};             ///< its wake-up point
    typename Memory::word appl_need_kick{};  ///< not 0: it sleeps, or is about to
    typename Memory::word sync_flags{};      ///< netmap's, for its layout: a server here reclaims whatever it says
};

/// Kernel to application: what the server of the ring says. 64 bytes.
template <class Memory = csb_memory>
struct alignas(64) csb_ktoa {
    typename Memory::word hwcur{};           ///< the server has taken all slots before it
    typename Memory::word hwtail{};          ///< first slot that is the server's
    typename Memory::word kern_need_kick{};  ///< not 0: it sleeps, or is about to
};
static_assert(sizeof(csb_atok<>) == 64 && offsetof(csb_atok<>, cur) == 4 && offsetof(csb_atok<>, appl_need_kick) == 8 &&
              offsetof(csb_atok<>, sync_flags) == 12);
static_assert(sizeof(csb_ktoa<>) == 64 && offsetof(csb_ktoa<>, hwtail) == 4 && offsetof(csb_ktoa<>, kern_need_kick) == 8);

/// One side's wish to be rung for. netmap's flag is 0 or 1; here it is another number each time, so that who rings does so
/// once per sleep, without a word of the sleeper's being written by anybody else.
class csb_bell {
public:
    [[nodiscard]] std::uint32_t wish() noexcept { return ++wishes_ == 0 ? ++wishes_ : wishes_; }
    /// Whether `wished`, as the other side has it, asks for a ring that it has not had.
    [[nodiscard]] [[gnu::always_inline]] bool due(std::uint32_t wished) noexcept {
        if (wished == 0 || wished == rung_) [[likely]]
            return false;
        rung_ = wished;
        return true;
    }
    void forget() noexcept { rung_ = 0; }

private:
    std::uint32_t wishes_ = 0, rung_ = 0;
};

/// A ring's two indexes as one side says them, unchecked.
struct csb_indexes {
    index_t first = 0;   ///< head, or hwcur
    index_t second = 0;  ///< cur, or hwtail
};

/// The user's hand on one ring's block. One thread at a time.
template <class Memory = csb_memory>
class csb_user {
public:
    csb_user() = default;
    csb_user(csb_atok<Memory>* out, csb_ktoa<Memory>* in) noexcept : out_(out), in_(in) {}

    /// Hands over the slots before `head`, whose contents were written before. cur goes first, so that no server sees a
    /// head beyond its cur (P3). True: the server sleeps, and wants to be rung for.
    [[nodiscard]] [[gnu::always_inline]] bool publish(index_t head, index_t cur) noexcept {
        Memory::store(out_->cur, cur);
        Memory::template store_release<csb_order::publish_user>(out_->head, head);  // P1, P3
        return kick();
    }
    /// Whether the server sleeps, asked after something was written for it.
    [[nodiscard]] [[gnu::always_inline]] bool kick() noexcept {
        Memory::template full_fence<csb_order::user_kicks>();  // W
        return bell_.due(Memory::load(in_->kern_need_kick));
    }

    /// What the server says: hwcur (first) and hwtail (second). What lies before hwtail may be read after it.
    [[nodiscard]] [[gnu::always_inline]] csb_indexes read() const noexcept {
        csb_indexes i;
        i.second = Memory::template load_acquire<csb_order::read_server>(in_->hwtail);  // C1
        i.first = Memory::load(in_->hwcur);
        return i;
    }

    /// From here on the server rings when it publishes. Look again (read()) before sleeping.
    void arm() noexcept {
        Memory::store(out_->appl_need_kick, bell_.wish());
        Memory::template full_fence<csb_order::user_sleeps>();  // W
    }
    void disarm() noexcept { Memory::store(out_->appl_need_kick, 0); }

private:
    csb_atok<Memory>* out_ = nullptr;
    csb_ktoa<Memory>* in_ = nullptr;
    csb_bell bell_;
};

/// The server's hand on one ring's block. One thread at a time.
template <class Memory = csb_memory>
class csb_server {
public:
    csb_server() = default;
    csb_server(csb_atok<Memory>* in, csb_ktoa<Memory>* out) noexcept : in_(in), out_(out) {}

    /// What the user says: head (first) and cur (second). What lies before head may be read after it.
    [[nodiscard]] [[gnu::always_inline]] csb_indexes read() const noexcept {
        csb_indexes i;
        i.first = Memory::template load_acquire<csb_order::read_user>(in_->head);  // C1, C3
        i.second = Memory::load(in_->cur);
        return i;
    }

    /// Hands over the slots before hwtail, whose contents were written before. True: the user sleeps, and wants to be rung for.
    [[nodiscard]] [[gnu::always_inline]] bool publish(index_t hwcur, index_t hwtail) noexcept {
        Memory::store(out_->hwcur, hwcur);
        Memory::template store_release<csb_order::publish_server>(out_->hwtail, hwtail);  // P1
        Memory::template full_fence<csb_order::server_kicks>();                           // W
        return bell_.due(Memory::load(in_->appl_need_kick));
    }

    /// Slots were taken, and there are none to hand over: nobody sleeps for that.
    [[gnu::always_inline]] void acknowledge(index_t hwcur) noexcept { Memory::store(out_->hwcur, hwcur); }

    /// From here on the user rings when it publishes. Look again (read()) before sleeping.
    void arm() noexcept {
        Memory::store(out_->kern_need_kick, bell_.wish());
        Memory::template full_fence<csb_order::server_sleeps>();  // W
    }
    void disarm() noexcept { Memory::store(out_->kern_need_kick, 0); }

    /// A new user begins: both blocks as if nothing had been said yet, and the server wants kicks.
    void reset(index_t hwcur, index_t hwtail) noexcept {
        Memory::store(in_->head, hwcur);
        Memory::store(in_->cur, hwcur);
        Memory::store(in_->appl_need_kick, 0);
        Memory::store(in_->sync_flags, 0);
        Memory::store(out_->kern_need_kick, bell_.wish());
        bell_.forget();
        Memory::store(out_->hwcur, hwcur);
        Memory::template store_release<csb_order::publish_server>(out_->hwtail, hwtail);
    }

private:
    csb_atok<Memory>* in_ = nullptr;
    csb_ktoa<Memory>* out_ = nullptr;
    csb_bell bell_;
};

}  // namespace nm::ptnet
