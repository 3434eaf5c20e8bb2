// SPDX-License-Identifier: BSD-2-Clause

// The VALE switch as a baseline: its published structure (Rizzo, Lettieri: "VALE, a switched ethernet for virtual
// machines", CoNEXT 2012, and netmap's behaviour since), written afresh. The sender's txsync puts its new slots into a
// forwarding table and prefetches their buffers; each frame's source is learnt and its destination looked up in 1024
// direct-mapped entries under Jenkins' hash; frames are linked into a list per destination; each destination then gives
// a lease on its slots under its lock, frames are copied in multiples of 64 bytes outside it, and the lease is reported
// under the lock again, whoever holds the oldest publishing all that are done. Buffers of 2048 bytes, each port in memory
// of its own.
//
// In the baseline's favour: no system call, no wake-up, the look-up inlined where netmap has a pointer to a function, no
// virtio-net headers, and stations chosen so that no two share an entry of the table. Work: copy.

#include <memory>
#include <sys/mman.h>

#include "switch.hpp"

namespace {

constexpr unsigned max_ports = 254, max_rings = 16, max_batch = 1024, table_entries = 1024;
constexpr unsigned nobody = max_ports + 1, everybody = max_ports;
constexpr std::uint32_t buf_size = 2048;
constexpr std::uint16_t none = 0xffff, more_frag = 0x20, indirect = 0x10;
constexpr std::uint32_t no_slot = 0xffffffff;

struct slot {
    std::uint32_t buf_idx;
    std::uint16_t len, flags;
    std::uint64_t ptr;
};

class spin_lock {
public:
    void lock() noexcept {
        while (locked_.test_and_set(std::memory_order_acquire)) bench::relax();
    }
    void unlock() noexcept { locked_.clear(std::memory_order_release); }

private:
    std::atomic_flag locked_ = ATOMIC_FLAG_INIT;
};

/// The user's ring: netmap's header has one 256-byte block before the slots.
struct alignas(256) ring {
    std::uint32_t head = 0, cur = 0, tail = 0;
    alignas(256) std::array<slot, max_batch> slots{};
};

/// The private side of a ring, and of a receiving one the leases on its slots.
struct alignas(128) kring {
    std::uint32_t hwcur = 0, hwtail = 0, hwlease = 0, lease_idx = 0;
    std::unique_ptr<ring> user = std::make_unique<ring>();
    std::unique_ptr<std::uint32_t[]> leases;
    spin_lock lock;
};

struct port {
    port(unsigned place, std::uint32_t num_slots) : number(place), n(num_slots) {
        void* p = mmap(nullptr, std::size_t{2} * n * buf_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED) bench::die("no memory for a port");
        buffers = static_cast<std::byte*>(p);
        for (std::uint32_t i = 0; i < n; ++i) tx.user->slots[i].buf_idx = i, rx.user->slots[i].buf_idx = n + i;
        tx.user->tail = tx.hwtail = n - 1;
        rx.leases = std::make_unique<std::uint32_t[]>(n);
        std::fill_n(rx.leases.get(), n, no_slot);
    }

    std::uint32_t next(std::uint32_t i) const noexcept { return i + 1 == n ? 0 : i + 1; }
    std::uint32_t prev(std::uint32_t i) const noexcept { return i == 0 ? n - 1 : i - 1; }
    std::uint32_t distance(std::uint32_t from, std::uint32_t to) const noexcept { return to >= from ? to - from : to + n - from; }
    std::byte* buf(const slot& s) const noexcept { return buffers + std::size_t{s.buf_idx} * buf_size; }

    /// The user's indexes must lie within what the user owns; a bad one stops the sync.
    bool prologue(const kring& k, std::uint32_t& head) const noexcept {
        head = *static_cast<const volatile std::uint32_t*>(&k.user->head);
        const std::uint32_t cur = *static_cast<const volatile std::uint32_t*>(&k.user->cur);
        return head < n && cur < n && distance(k.hwcur, head) <= distance(k.hwcur, cur) &&
               distance(k.hwcur, cur) <= distance(k.hwcur, k.hwtail);
    }

    bool rxsync() noexcept {
        std::uint32_t head = 0;
        if (!prologue(rx, head)) return false;
        const std::lock_guard guard(rx.lock);
        rx.hwcur = head;
        rx.user->tail = rx.hwtail;
        return true;
    }

    unsigned number;
    std::uint32_t n;
    bench::mac last_source = 0;
    std::byte* buffers = nullptr;
    kring tx, rx;
};

/// Jenkins' mix of three words, over an address's six bytes.
unsigned hash_of(bench::mac address) noexcept {
    const auto byte = [address](unsigned i) { return static_cast<std::uint32_t>(address >> (8 * i) & 0xff); };
    std::uint32_t a = 0x9e3779b9, b = 0x9e3779b9, c = 0;
    b += byte(5) << 8 | byte(4);
    a += byte(3) << 24 | byte(2) << 16 | byte(1) << 8 | byte(0);
    a -= b, a -= c, a ^= c >> 13;
    b -= c, b -= a, b ^= a << 8;
    c -= a, c -= b, c ^= b >> 13;
    a -= b, a -= c, a ^= c >> 12;
    b -= c, b -= a, b ^= a << 16;
    c -= a, c -= b, c ^= b >> 5;
    a -= b, a -= c, a ^= c >> 3;
    b -= c, b -= a, b ^= a << 10;
    c -= a, c -= b, c ^= b >> 15;
    return c % table_entries;
}

class vale {
public:
    vale(unsigned ports, std::uint32_t slots) : queues_(ports_end * max_rings + 1) {
        for (unsigned i = 0; i < ports; ++i) ports_.push_back(std::make_unique<port>(i, slots));
    }

    port& at(unsigned p) noexcept { return *ports_[p]; }
    void learn(bench::mac address, unsigned from) noexcept { table_[hash_of(address)] = {address, from}; }

    bool txsync(port& p) noexcept {
        std::uint32_t head = 0;
        if (!p.prologue(p.tx, head)) return false;
        preflush(p, head);
        p.tx.hwcur = head;
        p.tx.hwtail = p.prev(head);  // everything has gone: the sender never waits
        p.tx.user->tail = p.tx.hwtail;
        return true;
    }

private:
    struct forwarded {  // an entry of the forwarding table
        const std::byte* buf;
        std::uint16_t flags, len, next, frags;
    };
    struct queue {  // frames for one ring of one port
        std::uint16_t head = none, tail = none, slots = 0;
    };
    struct entry {
        bench::mac address = 0;
        std::uint64_t port = 0;
    };
    static constexpr unsigned ports_end = max_ports;

    void preflush(port& from, std::uint32_t head) noexcept {
        unsigned count = 0, frags = 1;
        for (std::uint32_t k = from.tx.hwcur; k != head; k = from.next(k)) {
            const slot& s = from.tx.user->slots[k];
            forwarded& f = frames_[count];
            f.buf = (s.flags & indirect) != 0 ? reinterpret_cast<const std::byte*>(s.ptr) : from.buf(s);
            f.len = s.len <= buf_size ? s.len : std::uint16_t{0};
            f.flags = s.flags;
            f.next = none;
            __builtin_prefetch(f.buf);
            ++count;
            if ((s.flags & more_frag) != 0) {
                ++frags;
                continue;
            }
            frames_[count - frags].frags = static_cast<std::uint16_t>(frags);
            frags = 1;
            if (count == max_batch) flush(from, std::exchange(count, 0));
        }
        if (count != 0) flush(from, count);
    }

    /// The receiving port's number, nobody or everybody.
    unsigned look_up(const forwarded& f, port& from) noexcept {
        if (f.len < 14) return nobody;
        std::uint64_t words[2];
        std::memcpy(&words[0], f.buf, 8);
        std::memcpy(&words[1], f.buf + 4, 8);
        const bench::mac to = words[0] & 0xffff'ffff'ffff, source = words[1] >> 16;
        if ((source & 1) == 0 && source != from.last_source) {
            from.last_source = source;
            table_[hash_of(source)] = {source, from.number};
        }
        if ((to & 1) != 0) return everybody;
        const entry& e = table_[hash_of(to)];
        return e.address == to ? static_cast<unsigned>(e.port) : everybody;
    }

    void flush(port& from, unsigned count) noexcept {
        std::array<std::uint16_t, max_ports * max_rings> used;
        unsigned num_used = 0;
        queue& all = queues_.back();
        for (unsigned i = 0; i < count; i += frames_[i].frags) {
            const unsigned to = look_up(frames_[i], from);
            if (to == nobody || to == from.number) continue;
            const unsigned where = to == everybody ? max_ports * max_rings : to * max_rings;
            queue& q = queues_[where];
            if (q.head == none) {
                q.head = static_cast<std::uint16_t>(i);
                if (to != everybody) used[num_used++] = static_cast<std::uint16_t>(where);
            } else {
                frames_[q.tail].next = static_cast<std::uint16_t>(i);
            }
            q.tail = static_cast<std::uint16_t>(i);
            q.slots = static_cast<std::uint16_t>(q.slots + frames_[i].frags);
        }
        if (all.head != none)
            for (unsigned p = 0; p < ports_.size(); ++p)
                if (p != from.number && queues_[p * max_rings].head == none) used[num_used++] = static_cast<std::uint16_t>(p * max_rings);
        for (unsigned i = 0; i < num_used; ++i) deliver(*ports_[used[i] / max_rings], queues_[used[i]], all);
        all = queue{};
    }

    /// What is in both lists, in order, into slots leased from the receiving ring.
    void deliver(port& to, queue& one, const queue& all) noexcept {
        kring& k = to.rx;
        std::uint16_t a = one.head, b = all.head;
        const std::uint32_t needed = std::uint32_t{one.slots} + all.slots;
        k.lock.lock();
        const std::uint32_t first = k.hwlease;
        std::uint32_t room = std::min(needed, to.n - 1 - to.distance(k.hwcur, first));
        std::uint32_t j = first;
        k.hwlease = (first + room) % to.n;
        const std::uint32_t lease = std::exchange(k.lease_idx, to.next(k.lease_idx));
        k.leases[lease] = no_slot;
        k.lock.unlock();

        while (room != 0 && (a != none || b != none)) {
            const unsigned i = a < b ? a : b;  // none is larger than any
            std::uint16_t& list = a < b ? a : b;
            const forwarded* f = &frames_[i];
            list = f->next;
            const std::uint16_t frags = f->frags;
            if (frags > room) break;
            for (unsigned left = frags; left != 0; --left, ++f, --room) {
                slot& s = k.user->slots[j];
                copy(to.buf(s), f->buf, f->len);
                s.len = f->len;
                s.flags = static_cast<std::uint16_t>(frags << 8 | (left != 1 ? more_frag : 0));
                j = to.next(j);
            }
        }

        k.lock.lock();
        if (room != 0) {  // not all of the lease was used: given back, or left as empty slots
            if (k.hwlease == (j + room) % to.n) k.hwlease = j;
            else
                for (; room != 0; --room, j = to.next(j)) k.user->slots[j].len = k.user->slots[j].flags = 0;
        }
        k.leases[lease] = j;
        if (k.hwtail == first) {  // this was the oldest: publish all that are done
            std::uint32_t tail = j;
            for (std::uint32_t l = to.next(lease); l != k.lease_idx && k.leases[l] != no_slot; l = to.next(l)) tail = k.leases[l];
            k.hwtail = tail;
        }
        k.lock.unlock();
        one = queue{};
    }

    /// In blocks of 64 bytes, the length rounded up.
    static void copy(std::byte* to, const std::byte* from, unsigned length) noexcept {
        for (unsigned done = 0; done < length; done += 64) std::memcpy(to + done, from + done, 64);
    }

    std::array<forwarded, max_batch> frames_;
    std::vector<queue> queues_;
    std::array<entry, table_entries> table_{};
    std::vector<std::unique_ptr<port>> ports_;
};

void sample(const bench::options& o) {
    std::vector<bool> taken(table_entries);
    bench::traffic t(o, [&](bench::mac m) { return !taken[hash_of(m)] && (taken[hash_of(m)] = true); });
    const auto sw = std::make_unique<vale>(o.ports + 1, o.slots);
    for (const auto& f : t.flows()) sw->learn(f.to, f.port + 1);
    port& sender = sw->at(0);
    bench::tally received;
    bench::run_switch(
        o, "VALE's structure", t, received,
        [&]() noexcept {
            ring& r = *sender.tx.user;
            const std::uint32_t room = sender.distance(r.head, r.tail);
            if (room < o.batch) bench::die("the sender's ring is full");
            std::uint32_t k = r.head;
            auto batch = t.next();
            for (unsigned i = 0; i < o.batch; ++i, k = sender.next(k)) {
                slot& s = r.slots[k];
                batch.fill(sender.buf(s));
                s.len = bench::frame_bytes;
                s.flags = 0;
            }
            t.sent(batch);
            r.head = r.cur = k;
            if (!sw->txsync(sender)) bench::die("txsync refused its own indexes");
        },
        [&](unsigned i) noexcept -> std::uint64_t {
            port& p = sw->at(i + 1);
            ring& r = *p.rx.user;
            if (!p.rxsync()) bench::die("rxsync refused its own indexes");
            const std::uint32_t m = std::min<std::uint32_t>(o.batch, p.distance(r.head, r.tail));
            std::uint32_t k = r.head;
            std::uint64_t sum = 0;
            for (std::uint32_t n = 0; n < m; ++n, k = p.next(k)) sum += bench::read_frame(p.buf(r.slots[k]));
            received.sum += sum;
            r.head = r.cur = k;
            received.packets += m;
            return m;
        });
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "copy";
    if (o.slots > max_batch || o.batch >= o.slots) bench::die("--slots at most 1024, and more than --batch", 2);
    if (2 * std::max(o.stations, o.ports) > table_entries * 3 / 4) bench::die("the table has 1024 entries: at most 384 stations a side", 2);
    sample(o);
}
