// SPDX-License-Identifier: BSD-2-Clause

// nm::forward against the same loop written by hand over the same rings, for callgrind: --mode nm or hand, --packets N.
// Works: pipe-pipe (one region: buffers swap) and pipe-null. Only measured() is counted, the feeding is not.
//
// The hand-written loop knows which two ports it joins and keeps the same contract: a slot is loaded once and checked,
// what would not change is not written, frames and bytes are counted, and the rings are left with the same indexes and
// the same bytes. Frames of several slots and bad ones are left to nm::forward, as a fast path by hand would leave them.
// Once a batch it uses the backends' own reclaim and publish.

#include <nm/nm.hpp>
#include <optional>

#include "sample.hpp"

namespace {

constexpr nm::index_t batch = 64;

using pipe_rx_ring = nm::pipe::rx_ring_type;
using pipe_tx_ring = nm::pipe::tx_ring_type;

/// The private truth, which is read-only to everybody but the loops that are part of nm; this one stands in for them.
template <class Ring>
nm::kring& truth(Ring& r) {
    return const_cast<nm::kring&>(r.truth());
}

// A slot as it lies in memory: buffer index, length and flags in one word, the pointer in the other.
constexpr std::uint64_t index_of = 0xffffffff, length_of = 0xffffULL << 32;
constexpr std::uint64_t flag(std::uint16_t f) { return std::uint64_t{f} << 48; }

struct raw {
    std::uint64_t what, ptr;
};
[[gnu::always_inline]] inline raw load(const nm::slot& s) noexcept {
    const auto* w = reinterpret_cast<const nm::u64_alias*>(&s);
    return {nm::load_once(w[0]), nm::load_once(w[1])};
}
[[gnu::always_inline]] inline void store(nm::slot& s, const raw& now, const raw& before) noexcept {
    auto* w = reinterpret_cast<nm::u64_alias*>(&s);
    if (now.what != before.what) nm::store_once(w[0], nm::u64_alias{now.what});
    if (now.ptr != before.ptr) nm::store_once(w[1], nm::u64_alias{now.ptr});
}

/// What goes out of slot j of the tx ring. For a pipe the peer's slot is written, where it differs.
[[gnu::always_inline]] inline void put_by_hand(nm::pipe_tx<>& b, nm::index_t j, raw out) noexcept {
    const raw before = load(b.peers[j]);
    if (((out.what ^ before.what) & index_of) != 0) out.what |= flag(nm::ns_buf_changed);
    store(b.peers[j], out, before);
}
[[gnu::always_inline]] inline void put_by_hand(nm::null_tx&, nm::index_t, raw) noexcept {}

template <class Tx>
[[gnu::always_inline]] inline nm::index_t forward_by_hand(pipe_rx_ring& rx, Tx& tx) noexcept {
    nm::kring& rk = truth(rx);
    nm::kring& tk = truth(tx);
    const nm::index_t rn = rk.num_slots, tn = tk.num_slots;
    const std::uint32_t buffers = rx.buffers().count - 2, size = rx.buffers().size;
    nm::index_t i = rk.hwcur, j = tk.hwcur, tail = tk.hwtail;
    if (rx.head() != i || rx.cur() != i || tx.head() != j || tx.cur() != j) return nm::forward(rx, tx, batch);
    auto& rb = rx.backend();
    auto& tb = tx.backend();
    if (nm::ring_distance(j, tail, tn) < batch) tail = tb.reclaim(j, nm::sync_flags::none);
    if (nm::ring_distance(i, rb.seen, rn) < batch) {
        const nm::index_t seen = rb.link->tail.load(std::memory_order_acquire);
        if (seen < rn) rb.seen = seen;
    }
    const nm::index_t n = std::min({batch, nm::ring_distance(i, rb.seen, rn), nm::ring_distance(j, tail, tn)});
    nm::slot* const rs = rx.shared().slots();
    nm::slot* const ts = tx.shared().slots();
    std::uint64_t bytes = 0;
    nm::index_t frames = 0;
    for (; frames < n; ++frames) {
        const raw s = load(rs[i]);
        const raw t = load(ts[j]);
        const auto from = static_cast<std::uint32_t>(s.what), to = static_cast<std::uint32_t>(t.what);
        const auto length = static_cast<std::uint16_t>(s.what >> 32);
        if (from - 2 >= buffers || to - 2 >= buffers || length - 1U >= size || (s.what & flag(nm::ns_morefrag)) != 0) [[unlikely]]
            break;
        const raw out{s.what & (index_of | length_of | flag(nm::ns_vnet)), s.ptr};
        put_by_hand(tb, j, out);
        store(ts[j], out, t);
        store(rs[i], {to | (s.what & length_of) | flag(nm::ns_buf_changed), s.ptr}, s);
        bytes += length;
        i = i + 1 == rn ? 0 : i + 1;
        j = j + 1 == tn ? 0 : j + 1;
    }
    for (auto* c : {&rx.live(), &tx.live()}) c->frames += frames, c->slots += frames, c->bytes += bytes;
    rb.swapped |= frames != 0;
    rk.hwcur = rk.hwtail = i;
    rx.set_head(i);
    nm::store_once(rx.shared().tail, i);
    rb.publish(i);
    tk.hwcur = j;
    tk.hwtail = tail;
    tx.set_head(j);
    nm::store_once(tx.shared().tail, tail);
    tb.publish(j);
    return frames != 0 || n == 0 ? frames : nm::forward(rx, tx, batch);
}

struct by_nm {
    template <class Tx>
    static nm::index_t forward(pipe_rx_ring& rx, Tx& tx) noexcept {
        return nm::forward(rx, tx, batch);
    }
};
struct by_hand {
    template <class Tx>
    static nm::index_t forward(pipe_rx_ring& rx, Tx& tx) noexcept {
        return forward_by_hand(rx, tx);
    }
};

/// callgrind collects from here to its return (--toggle-collect).
template <class Who, class Tx>
[[gnu::noinline]] nm::index_t measured(pipe_rx_ring& rx, Tx& tx) noexcept {
    return Who::forward(rx, tx);
}

template <class Who, class Port>
void run(const bench::options& o, Port& to, pipe_tx_ring& feed, pipe_rx_ring& from, pipe_rx_ring* end) {
    std::uint64_t passed = 0, received = 0;
    while (passed < o.packets) {
        nm::generate(feed, batch, [](nm::slot& s) noexcept { s.len = bench::frame_bytes; });
        passed += measured<Who>(from, to.tx());
        if (end != nullptr) received += nm::drain(*end, batch);
    }
    if (end != nullptr && received != passed) bench::die("frames were lost");
    bench::report_one(o, o.mode.c_str(), {static_cast<double>(passed), false});
}

template <class Who>
void run(const bench::options& o) {
    const auto memory = nm::region::create({.bufs = 16384, .meta_bytes = 1 << 20});
    if (!memory) bench::die(memory.error().text);
    nm::open_options shared;  // one region: buffers swap
    shared.memory = *memory;
    nm::context context;
    auto in = nm::open<nm::pipe>(context, "netmap:bench{1", shared), out = nm::open<nm::pipe>(context, "netmap:bench}1", shared);
    if (o.work == "pipe-null") {
        auto sink = nm::open<nm::null_port>(context, "null:bench", shared);
        run<Who>(o, sink, in.tx(), out.rx(), nullptr);
    } else {
        auto next = nm::open<nm::pipe>(context, "netmap:bench{2", shared), last = nm::open<nm::pipe>(context, "netmap:bench}2", shared);
        run<Who>(o, next, in.tx(), out.rx(), &last.rx());
    }
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.packets == 0) o.packets = 65536;
    if (o.work != "pipe-pipe" && o.work != "pipe-null") bench::die("--work pipe-pipe or pipe-null", 2);
    if (o.mode == "hand") run<by_hand>(o);
    else if (o.mode == "nm") run<by_nm>(o);
    else bench::die("--mode nm or hand", 2);
}
