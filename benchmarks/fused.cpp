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

/// What goes out of slot j of the tx ring. For a pipe the peer's slot is written, where it differs.
[[gnu::always_inline]] inline void put_by_hand(nm::pipe_tx<>& b, nm::index_t j, nm::slot& out) noexcept {
    const nm::slot before = nm::load_slot(b.peers[j]);
    if (out.buf_idx != before.buf_idx) out.flags |= nm::ns_buf_changed;
    nm::update_slot(b.peers[j], out, before);
}
[[gnu::always_inline]] inline void put_by_hand(nm::null_tx&, nm::index_t, nm::slot&) noexcept {}

template <class Tx>
[[gnu::always_inline]] inline nm::index_t forward_by_hand(pipe_rx_ring& rx, Tx& tx) noexcept {
    nm::kring& rk = truth(rx);
    nm::kring& tk = truth(tx);
    const nm::index_t rn = rk.num_slots, tn = tk.num_slots;
    const nm::buffer_space bufs = rx.buffers();
    nm::index_t i = rk.hwcur, j = tk.hwcur, tail = tk.hwtail, frames = 0;
    if (rx.head() != i || rx.cur() != i || tx.head() != j || tx.cur() != j) return nm::forward(rx, tx, batch);
    auto& rb = rx.backend();
    auto& tb = tx.backend();
    if (nm::ring_distance(j, tail, tn) < batch) tail = tb.reclaim(j, nm::sync_flags::none);
    nm::slot* const rs = rx.shared().slots();
    nm::slot* const ts = tx.shared().slots();
    nm::index_t seen = rb.seen;
    std::uint64_t bytes = 0;
    for (; frames < batch && j != tail; ++frames) {
        if (i == seen) {
            seen = rb.link->tail.load(std::memory_order_acquire);
            if (seen >= rn || i == seen) break;
        }
        const nm::slot s = nm::load_slot(rs[i]);
        const nm::slot t = nm::load_slot(ts[j]);
        if ((s.flags & nm::ns_morefrag) != 0 || s.len == 0 || s.len > bufs.size || !bufs.valid(s.buf_idx) || !bufs.valid(t.buf_idx))
            [[unlikely]]
            break;
        nm::slot out{s.buf_idx, s.len, static_cast<std::uint16_t>(s.flags & nm::ns_vnet), s.ptr};
        const nm::slot kept = out;
        put_by_hand(tb, j, out);
        nm::update_slot(ts[j], kept, t);
        nm::update_slot(rs[i], nm::slot{t.buf_idx, s.len, nm::ns_buf_changed, s.ptr}, s);
        bytes += s.len;
        i = i + 1 == rn ? 0 : i + 1;
        j = j + 1 == tn ? 0 : j + 1;
    }
    for (auto* c : {&rx.stats(), &tx.stats()}) c->frames += frames, c->slots += frames, c->bytes += bytes;
    rb.seen = seen;
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
    return frames;
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
