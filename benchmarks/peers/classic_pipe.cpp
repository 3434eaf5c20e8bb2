// SPDX-License-Identifier: BSD-2-Clause

// The classic netmap pipe as a baseline: netmap's structure, written afresh from what is known of its behaviour. Each end
// has rings of its own; txsync copies the new slots of a tx ring to the same places of the peer's rx ring, rxsync copies
// the released ones back, so that buffers change rings and nothing is copied but slots; the position is handed over once
// a sync. In the baseline's favour: no system call, no lock on the ring, no wake-up, and only slots with a changed buffer
// are copied back (netmap copies all; written so it is half as fast here, and misses the ratio that others saw).
//
// Works: `slots` (16-byte slots only) and `frames` (60 bytes filled and read).

#include <memory>
#include <sys/mman.h>

#include "sample.hpp"

namespace {

constexpr std::uint16_t buf_changed = 0x1, more_frag = 0x20;

struct slot {
    std::uint32_t buf_idx;
    std::uint16_t len, flags;
    std::uint64_t ptr;
};

/// The user's ring: netmap's header has one 256-byte block before the slots.
struct alignas(256) ring {
    std::uint32_t head = 0, cur = 0, tail = 0;
    alignas(256) std::array<slot, 4096> slots{};
};

/// The private side of a ring; `pipe_tail` is what the peer's sync writes.
struct alignas(128) kring {
    std::uint32_t hwcur = 0, hwtail = 0;
    ring* user = nullptr;
    kring* peer = nullptr;
    alignas(128) std::atomic<std::uint32_t> pipe_tail{0};
};

struct pipe {
    explicit pipe(std::uint32_t num_slots) : n(num_slots) {
        if (n > 4096) bench::die("--slots must be at most 4096", 2);
        void* p = mmap(nullptr, (n + 2) * stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        void* q = mmap(nullptr, 2 * n * stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED || q == MAP_FAILED) bench::die("no memory for the pipe");
        buffers = static_cast<std::byte*>(p);
        for (std::uint32_t i = 0; i < n; ++i) tx_ring->slots[i].buf_idx = rx_ring->slots[i].buf_idx = i + 2;
        tx.user = tx_ring.get(), rx.user = rx_ring.get();
        tx.peer = &rx, rx.peer = &tx;
        tx_ring->tail = tx.hwtail = n - 1;
        tx.pipe_tail = n - 1;
    }

    std::uint32_t next(std::uint32_t i) const noexcept { return i + 1 == n ? 0 : i + 1; }
    std::uint32_t prev(std::uint32_t i) const noexcept { return i == 0 ? n - 1 : i - 1; }
    std::uint32_t distance(std::uint32_t from, std::uint32_t to) const noexcept { return to >= from ? to - from : to + n - from; }

    /// The user's indexes must lie within what the user owns; a bad one stops the sync.
    bool prologue(const ring& r, std::uint32_t first, std::uint32_t tail, std::uint32_t& head) const noexcept {
        head = *static_cast<const volatile std::uint32_t*>(&r.head);
        const std::uint32_t cur = *static_cast<const volatile std::uint32_t*>(&r.cur);
        return head < n && cur < n && distance(first, head) <= distance(first, tail) && distance(first, cur) <= distance(first, tail) &&
               distance(first, head) <= distance(first, cur);
    }

    bool txsync() noexcept {
        std::uint32_t head = 0;
        if (!prologue(*tx.user, tx.hwcur, tx.hwtail, head)) return false;
        tx.hwtail = tx.pipe_tail.load(std::memory_order_acquire);
        std::uint32_t complete = n;
        for (std::uint32_t k = tx.hwcur; k != head;) {
            slot& ts = tx.user->slots[k];
            rx.user->slots[k] = ts;
            if ((ts.flags & buf_changed) != 0) ts.flags = static_cast<std::uint16_t>(ts.flags & ~buf_changed);
            const bool last = (ts.flags & more_frag) == 0;
            k = next(k);
            if (last) complete = k;
        }
        tx.hwcur = head;
        if (complete != n) rx.pipe_tail.store(complete, std::memory_order_release);
        tx.user->tail = tx.hwtail;
        return true;
    }

    bool rxsync() noexcept {
        std::uint32_t head = 0;
        if (!prologue(*rx.user, rx.hwcur, rx.hwtail, head)) return false;
        rx.hwtail = rx.pipe_tail.load(std::memory_order_acquire);
        if (rx.hwcur != head) {
            for (std::uint32_t k = rx.hwcur; k != head; k = next(k)) {
                slot& rs = rx.user->slots[k];
                if ((rs.flags & buf_changed) == 0) continue;
                tx.user->slots[k] = rs;
                rs.flags = static_cast<std::uint16_t>(rs.flags & ~buf_changed);
            }
            rx.hwcur = head;
            tx.pipe_tail.store(prev(head), std::memory_order_release);
        }
        rx.user->tail = rx.hwtail;
        return true;
    }

    std::byte* buf(const slot& s) const noexcept { return buffers + s.buf_idx * stride; }

    static constexpr std::size_t stride = 2048;
    std::uint32_t n;
    std::byte* buffers = nullptr;
    kring tx, rx;
    std::unique_ptr<ring> tx_ring = std::make_unique<ring>(), rx_ring = std::make_unique<ring>();
};

template <bool Frames>
bench::measured sample(const bench::options& o) {
    pipe p(o.slots);
    bench::tally sent, received;
    const auto produce = [&]() noexcept -> std::uint64_t {
        ring& r = *p.tx.user;
        // As netmap's own generator: one sync a batch, which also takes back room; one more only when there was none.
        std::uint32_t space = p.distance(r.head, r.tail);
        if (space == 0) {
            if (!p.txsync()) bench::die("txsync refused its own indexes");
            space = p.distance(r.head, r.tail);
        }
        const std::uint32_t m = std::min<std::uint32_t>(o.batch, space);
        if (m == 0) return 0;
        std::uint32_t k = r.head;
        for (std::uint32_t i = 0; i < m; ++i, k = p.next(k)) {
            slot& s = r.slots[k];
            if constexpr (Frames) bench::fill_frame(p.buf(s), sent.packets);
            s.len = Frames ? static_cast<std::uint16_t>(bench::frame_bytes) : bench::slot_length(sent.packets);
            ++sent.packets;
            s.flags = 0;
        }
        r.head = r.cur = k;
        if (!p.txsync()) bench::die("txsync refused its own indexes");
        return m;
    };
    const auto consume = [&]() noexcept -> std::uint64_t {
        ring& r = *p.rx.user;
        if (!p.rxsync()) bench::die("rxsync refused its own indexes");
        const std::uint32_t m = std::min<std::uint32_t>(o.batch, p.distance(r.head, r.tail));
        std::uint32_t k = r.head;
        for (std::uint32_t i = 0; i < m; ++i, k = p.next(k)) {
            const slot& s = r.slots[k];
            if constexpr (Frames) received.sum += bench::read_frame(p.buf(s));
            else received.sum += s.len;
        }
        r.head = r.cur = k;
        received.packets += m;
        return m;
    };
    const bench::measured rate = bench::channel_rate(o, produce, consume);
    if (received.sum != (Frames ? bench::expected_sum(received.packets) : bench::expected_lengths(received.packets))) bench::die("frames were lost or repeated");
    return rate;
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "slots";
    const double pingpong = bench::pingpong_ns(o);
    const bench::measured rate = o.work == "frames" ? sample<true>(o) : sample<false>(o);
    bench::report_two(o, "classic netmap pipe", rate, pingpong);
}
