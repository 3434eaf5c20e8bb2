// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// vmxnet3's rings. Whose a descriptor or completion is says its generation bit, which changes its meaning with each round.
// Completions come on rings of their own.

#include <cstdint>

#include "nm/ports/nic_device.hpp"
#include "nm/ports/vmxnet3_regs.hpp"
#include "nm/ring.hpp"

namespace nm {

/// Sends. Each frame is completed by itself. A frame of several slots is shown to the device when all of it is written; it
/// may have 16 parts, and one with more is dropped (bad_chain). Holes have no descriptor.
template <bar_access Bar>
struct vmxnet3_tx {
    using abi = vmxnet3_abi;
    /// What it needs beside itself; all three arrays have `slots` elements.
    struct layout {
        abi::descriptor* ring;
        const abi::completion* completions;
        std::uint32_t* slot_of;  // private: by descriptor, the slot whose frame ends there, or `none`
        index_t slots;
        unsigned queue;
    };
    static constexpr std::uint32_t none = ~0U;

    vmxnet3_tx(const layout& l, Bar bar0, const nic_buffers& b) noexcept
        : ring(l.ring), completions(l.completions), slot_of(l.slot_of), bar(bar0), buffers(b), slots(l.slots), queue(l.queue) {}

    [[gnu::always_inline]] void put(index_t i, std::uint32_t buf, std::uint32_t len, bool last) noexcept {
        abi::descriptor& d = ring[at];
        d.address = buffers.at(buf);
        if (last && parts == 0) [[likely]] {
            d.word3 = abi::tx_eop | abi::tx_cq;
            slot_of[at] = i;
            show(d, (len & abi::len_bits) | gen);
            forward();
            return;
        }
        d.word3 = last ? abi::tx_eop | abi::tx_cq : 0;
        slot_of[at] = last ? i : none;
        const std::uint32_t word = (len & abi::len_bits) | gen;
        show(d, parts == 0 ? word ^ abi::tx_gen : word);
        if (parts == 0) first = at, first_word = word;
        ++parts;
        forward();
        if (!last) return;
        if (parts > abi::max_tx_parts) [[unlikely]] {
            stats->drop(cause::bad_chain);
            rewind(parts);
        } else {
            show(ring[first], first_word);
            parts = 0;
        }
    }
    void report(index_t) const noexcept {}

    /// They have not been shown, and must not be when the frame that comes in their place is.
    [[gnu::always_inline]] void rewind(index_t k) noexcept {
        for (; k != 0 && parts != 0; --k, --parts) {
            if (at == 0) at = slots, gen ^= abi::tx_gen;
            --at;
            show(ring[at], gen ^ abi::tx_gen);
        }
    }

    [[gnu::always_inline]] void publish(index_t i) noexcept {
        published = i;
        const index_t end = parts == 0 ? at : first;
        if (end == rung) return;
        rung = end;
        doorbell_barrier();  // P2: descriptors before the doorbell
        write(bar, vmxnet3_regs::txprod[queue], end);
    }

    [[nodiscard]] [[gnu::always_inline]] index_t reclaim() noexcept {
        index_t out = ring_distance(oldest, at, slots);  // bounds the loop, whatever the device says
        while (out != 0) {
            const abi::completion& c = completions[seen];
            if (((__atomic_load_n(&c.word3, __ATOMIC_ACQUIRE) ^ seen_gen) & abi::comp_gen) != 0) break;
            const index_t d = load_once(c.word0) & abi::comp_index;
            if (++seen == slots) seen = 0, seen_gen ^= abi::comp_gen;
            const index_t past = d < slots ? ring_distance(oldest, d, slots) : out;
            if (past >= out || slot_of[d] == none) [[unlikely]] {
                stats->drop(cause::bad_idx);
                break;
            }
            sent = ring_next(slot_of[d], slots);
            oldest = ring_next(d, slots);
            out -= past + 1;
        }
        if (oldest == rung) sent = published;  // slots that nothing was sent from come back with those before them
        return sent;
    }

    abi::descriptor* ring;
    const abi::completion* completions;
    std::uint32_t* slot_of;
    Bar bar;
    nic_buffers buffers;
    live_counters* stats = nullptr;
    index_t slots;
    unsigned queue;
    // Descriptors: the next to be written, the first of an unfinished frame, the end of what the device was told of, the
    // oldest that is not done.
    index_t at = 0, first = 0, rung = 0, oldest = 0;
    std::uint32_t gen = abi::tx_gen;
    std::uint32_t first_word = 0;
    index_t parts = 0;  // of the unfinished frame
    index_t published = 0, sent = 0;  // slots
    index_t seen = 0;                 // completions
    std::uint32_t seen_gen = abi::comp_gen;

private:
    [[gnu::always_inline]] static void show(abi::descriptor& d, std::uint32_t word) noexcept {
        __atomic_store_n(&d.word2, word, __ATOMIC_RELEASE);  // P2: the rest before the generation
    }
    [[gnu::always_inline]] void forward() noexcept {
        if (++at == slots) at = 0, gen ^= abi::tx_gen;
    }
};

/// What a look at the completion ring found: the next slot's contents, and where the look ended.
struct vmxnet3_turn {
    enum class is : std::uint16_t { nothing, completed, passed_over };
    std::uint32_t seen, gen;
    std::uint16_t len, flags;
    std::int16_t left;  // parts of the frame after this one; negative: they become holes
    is kind;
};

/// Looks at completions of what is not a whole good frame in the next descriptor's buffer.
struct vmxnet3_odd {
    using abi = vmxnet3_abi;
    static constexpr std::uint32_t compared = abi::comp_index | abi::comp_eop | abi::comp_sop | abi::comp_ring;

    const abi::completion* completions;
    index_t slots, completion_slots;
    unsigned queue;
    index_t parts;
    live_counters* stats;

    /// For slot i. `out`: descriptors from its own on that the device has. `left`: as the last look said.
    [[nodiscard]] [[gnu::noinline, gnu::cold]] vmxnet3_turn look(index_t i, index_t out, std::int32_t left, std::uint32_t seen,
                                                                 std::uint32_t gen) const noexcept {
        using is = vmxnet3_turn::is;
        for (unsigned tries = 0; tries < patience && there(seen, gen); ++tries) {
            const abi::completion& c = completions[seen];
            if (left == 0) {
                const std::uint32_t word0 = load_once(c.word0);
                const index_t d = word0 & abi::comp_index;
                if ((word0 & abi::comp_ring) >> 16 != queue || d >= slots || ring_distance(i, d, slots) >= out) {
                    stats->drop(cause::bad_idx);
                    forward(seen, gen);
                    continue;
                }
                if (d != i) return {seen, gen, 0, 0, 0, is::passed_over};
                left = whole(seen, gen, i);
                if (left == 0) break;
            }
            if (left < 0) return {seen, gen, 0, 0, static_cast<std::int16_t>(left + 1), is::completed};
            const auto len = static_cast<std::uint16_t>(load_once(c.word2) & abi::len_bits);
            return {seen, gen, len, left > 1 ? ns_morefrag : std::uint16_t{0}, static_cast<std::int16_t>(left - 1), is::completed};
        }
        return {seen, gen, 0, 0, static_cast<std::int16_t>(left), is::nothing};
    }

private:
    static constexpr unsigned patience = 32;  // wrong completions in one go

    [[nodiscard]] bool there(index_t seen, std::uint32_t gen) const noexcept {
        return ((__atomic_load_n(&completions[seen].word3, __ATOMIC_ACQUIRE) ^ gen) & abi::comp_gen) == 0;  // C2
    }
    void forward(std::uint32_t& seen, std::uint32_t& gen) const noexcept {
        if (++seen == completion_slots) seen = 0, gen ^= abi::comp_gen;
    }
    /// Completions of the frame that begins here, negative if there is no frame in them, 0 when its end has not come.
    [[nodiscard]] std::int32_t whole(std::uint32_t seen, std::uint32_t gen, index_t i) const noexcept {
        std::int32_t n = 0;
        for (; n < static_cast<std::int32_t>(parts); ++n, i = ring_next(i, slots), forward(seen, gen)) {
            if (!there(seen, gen)) return 0;
            const std::uint32_t word0 = load_once(completions[seen].word0) & compared;
            if ((word0 & ~abi::comp_eop) != (i | queue << 16 | (n == 0 ? abi::comp_sop : 0))) break;
            if ((word0 & abi::comp_eop) == 0) continue;
            // Damaged, or out of buffers: the device has counted it.
            return (load_once(completions[seen].word2) & abi::comp_err) != 0 ? -(n + 1) : n + 1;
        }
        stats->drop(cause::bad_chain);
        return n == 0 ? -1 : -n;
    }
};

/// Receives. Descriptor i of ring 1 is slot i's. Where the longest frame needs k buffers, every k-th descriptor is for the
/// beginning of a frame (head) and the others for the rest (body): the device passes over bodies that a short frame has left,
/// and their slots become holes. Ring 2, from which the device would take bodies once ring 1 has none, stays empty.
template <bar_access Bar>
struct vmxnet3_rx {
    using abi = vmxnet3_abi;
    /// What it needs beside itself.
    struct layout {
        abi::descriptor* ring;
        const abi::completion* completions;
        const abi::rx_queue* shared;
        index_t slots, completion_slots;
        unsigned queue;
        index_t parts;             // k
        std::uint32_t buffer_len;  // bytes
    };

    vmxnet3_rx(const layout& l, Bar bar0, const nic_buffers& b) noexcept
        : ring(l.ring), completions(l.completions), shared(l.shared), bar(bar0), buffers(b), slots(l.slots),
          completion_slots(l.completion_slots), queue(l.queue), parts(l.parts), buffer_len(l.buffer_len), newest(l.slots - 1),
          rung(l.slots - 1) {}

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t i) noexcept {
        const abi::completion& c = completions[seen];
        // C2: the generation before the rest, and before the buffer
        if (((__atomic_load_n(&c.word3, __ATOMIC_ACQUIRE) ^ seen_gen) & abi::comp_gen) != 0) return false;
        const std::uint32_t word0 = load_once(c.word0) & compared, word2 = load_once(c.word2);
        if (word0 == (i | queue << 16 | abi::comp_sop | abi::comp_eop) && (word2 & abi::comp_err) == 0) [[likely]] {
            next = {seen, seen_gen, static_cast<std::uint16_t>(word2 & abi::len_bits), 0, 0, vmxnet3_turn::is::completed};
            return true;
        }
        const vmxnet3_odd v{completions, slots, completion_slots, queue, parts, stats};
        next = v.look(i, ring_distance(i, newest, slots), left, seen, seen_gen);
        seen = next.seen;
        seen_gen = next.gen;
        return next.kind != vmxnet3_turn::is::nothing;
    }
    [[gnu::always_inline]] void get(index_t, slot& s) noexcept {
        s.len = next.len;
        s.flags = next.flags;
        left = next.left;
        if (next.kind != vmxnet3_turn::is::completed) return;
        if (++seen == completion_slots) seen = 0, seen_gen ^= abi::comp_gen;
    }

    /// The device gets the descriptor before this one: the one that was given last stays out, since rings that are full look
    /// empty to it.
    [[gnu::always_inline]] void give(index_t i, std::uint32_t buf) noexcept {
        ring[i].address = buffers.at(buf);
        const bool head = newest == next_head;
        __atomic_store_n(&ring[newest].word2, buffer_len | (head ? 0 : abi::rx_body) | gen, __ATOMIC_RELEASE);  // P2
        if (head) {
            next_head += parts;
            if (next_head + parts > slots) next_head = 0;  // what is left at the end would be too short for a whole frame
        }
        newest = i;
        if (i == 0) gen ^= abi::rx_gen;
    }
    void begin() noexcept { rung = newest; }
    [[gnu::always_inline]] void publish(index_t) noexcept {
        if (newest == rung) return;
        rung = newest;
        if (load_once(shared->wants_doorbell) == 0) return;
        doorbell_barrier();  // P2
        write(bar, vmxnet3_regs::rxprod[queue], newest);
    }

    abi::descriptor* ring;
    const abi::completion* completions;
    const abi::rx_queue* shared;
    Bar bar;
    nic_buffers buffers;
    live_counters* stats = nullptr;
    index_t slots, completion_slots;
    unsigned queue;
    index_t parts;
    std::uint32_t buffer_len;
    index_t newest, rung;      // the slot given last, which the device has not got; the same when it was last told
    index_t next_head = 0;
    std::uint32_t gen = 0;     // of the descriptor of slot `newest`: at first one of the round before the first
    index_t seen = 0;          // completions
    std::uint32_t seen_gen = abi::comp_gen;
    std::int32_t left = 0;     // parts of a frame that was looked at as a whole; negative: they become holes

    vmxnet3_turn next{};       // what ready() found, for get()

private:
    static constexpr std::uint32_t compared = vmxnet3_odd::compared;
};

}  // namespace nm
