// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Rings of Intel's legacy descriptors with a tail register, which all of its controllers from the 82540 to the X540 have had
// (82574 datasheet, 7.1.4 and 7.2.10; 82599 datasheet, 7.1.5 and 7.2.3.2.2).

#include <cstdint>

#include "nm/ports/nic_device.hpp"
#include "nm/ring.hpp"

namespace nm {

/// Both kinds: an address, and a word with the length in its low 16 bits and the status, which the device writes, from
/// bit 32 on.
struct intel_descriptor {
    std::uint64_t address;
    std::uint64_t word;
};
static_assert(sizeof(intel_descriptor) == 16);

namespace intel {
inline constexpr std::uint64_t tx_eop = std::uint64_t{0x01} << 24;   // end of packet
inline constexpr std::uint64_t tx_ifcs = std::uint64_t{0x02} << 24;  // insert the FCS
inline constexpr std::uint64_t tx_rs = std::uint64_t{0x08} << 24;    // report status: write DD back
inline constexpr std::uint64_t dd = std::uint64_t{0x01} << 32;       // descriptor done
inline constexpr std::uint64_t rx_eop = std::uint64_t{0x02} << 32;
}  // namespace intel

/// Sends. The device says only of descriptors that ask for it (RS) that they are done: the last of each batch, and one in
/// every quarter of the ring, so that a batch as long as the ring does not come back all at once. Asking for all of them
/// costs a tenth of the rate (82574 under QEMU). A descriptor is taken only by what is sent: holes have none.
template <bar_access Bar>
struct intel_tx {
    /// A descriptor that asked, and the slot up to which all are sent once it is done.
    struct mark {
        std::uint32_t descriptor;
        index_t sent;
    };
    /// What it needs in private memory, beside the descriptors; outlives it.
    struct layout {
        intel_descriptor* ring;
        mark* marks;             // as many as descriptors
        std::uint32_t count;     // of descriptors: a power of two, not less than there are slots
        index_t num_slots;
        std::uint32_t tail;      // the tail register's offset
    };

    intel_tx(const layout& l, Bar registers, const nic_buffers& b) noexcept
        : ring(l.ring), marks(l.marks), bar(registers), buffers(b), mask(l.count - 1), tail(l.tail), num_slots(l.num_slots),
          every(l.count / 4) {}

    [[gnu::always_inline]] void put(index_t i, std::uint32_t buf, std::uint32_t len, bool last) noexcept {
        intel_descriptor& d = ring[at & mask];
        d.address = buffers.at(buf);
        d.word = len | intel::tx_ifcs | (last ? intel::tx_eop : 0);
        ++at;
        if (!last) return;
        whole = at;
        if (whole - asked > every) [[unlikely]]
            ask(ring_next(i, num_slots));
    }
    void report(index_t i) noexcept {
        if (whole == at && asked != whole) ask(ring_next(i, num_slots));
    }
    void rewind(index_t k) noexcept { at -= k; }

    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (whole == published) {
            left_out(i);
            return;
        }
        if (asked != whole) ask(i);
        else marks[(next_mark - 1) & mask].sent = i;
        published = whole;
        doorbell_barrier();  // P2: descriptors before the doorbell
        bar.template write<std::uint32_t>(tail, published & mask);
    }
    [[nodiscard]] [[gnu::always_inline]] index_t reclaim() noexcept {
        while (first_mark != next_mark) {
            const mark m = marks[first_mark & mask];
            if ((__atomic_load_n(&ring[m.descriptor].word, __ATOMIC_ACQUIRE) & intel::dd) == 0) break;
            sent = m.sent;
            ++first_mark;
        }
        return sent;
    }

    intel_descriptor* ring;
    mark* marks;
    Bar bar;
    nic_buffers buffers;
    live_counters* stats = nullptr;
    std::uint32_t mask, tail;
    index_t num_slots;
    std::uint32_t every;
    // Counts of descriptors; they run on and are masked when used.
    std::uint32_t at = 0, whole = 0, published = 0, asked = 0;
    std::uint32_t first_mark = 0, next_mark = 0;
    index_t sent = 0;

private:
    [[gnu::always_inline]] void ask(index_t sent_then) noexcept {
        const std::uint32_t last = (whole - 1) & mask;
        ring[last].word |= intel::tx_rs;
        marks[next_mark & mask] = {last, sent_then};
        ++next_mark;
        asked = whole;
    }
    // Slots that nothing was sent from come back with the last one before them that was.
    [[gnu::always_inline]] void left_out(index_t i) noexcept {
        if (first_mark == next_mark) sent = i;
        else marks[(next_mark - 1) & mask].sent = i;
    }
};

/// Receives: descriptor i is slot i's.
template <bar_access Bar>
struct intel_rx {
    intel_rx(intel_descriptor* descriptors, index_t slots, std::uint32_t tail_register, Bar registers, const nic_buffers& b) noexcept
        : ring(descriptors), bar(registers), buffers(b), num_slots(slots), tail(tail_register) {}

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t i) noexcept {
        word = __atomic_load_n(&ring[i].word, __ATOMIC_ACQUIRE);  // C2: DD before the buffer
        return (word & intel::dd) != 0;
    }
    [[gnu::always_inline]] void get(index_t, slot& s) noexcept {
        s.len = static_cast<std::uint16_t>(word);
        s.flags = (word & intel::rx_eop) != 0 ? std::uint16_t{0} : ns_morefrag;
        if (s.len == 0) [[unlikely]]
            stats->drop(cause::bad_len);
    }
    [[gnu::always_inline]] void give(index_t i, std::uint32_t buf) noexcept { ring[i] = {buffers.at(buf), 0}; }
    void begin() noexcept { ring_doorbell(0); }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (i == published) return;
        published = i;
        ring_doorbell(i);
    }

    intel_descriptor* ring;
    Bar bar;
    nic_buffers buffers;
    live_counters* stats = nullptr;
    index_t num_slots;
    std::uint32_t tail;
    index_t published = 0;
    std::uint64_t word = 0;  // of the descriptor that ready() looked at

private:
    // The tail is the first descriptor that is not the device's: when it meets the head, the device has none at all.
    [[gnu::always_inline]] void ring_doorbell(index_t i) noexcept {
        doorbell_barrier();  // P2
        bar.template write<std::uint32_t>(tail, ring_prev(i, num_slots));
    }
};

}  // namespace nm
