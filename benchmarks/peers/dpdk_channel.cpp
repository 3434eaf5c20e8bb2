// SPDX-License-Identifier: BSD-2-Clause

// DPDK's channels, used as its documentation has them. Works:
//   frames  rte_ring of mbufs: the producer takes a batch from the pool, fills 60 bytes and enqueues; the consumer
//           dequeues, reads 60 bytes and gives the batch back to the pool (per-lcore caches on both sides)
//   slots   rte_ring with 16-byte elements and the zero-copy calls: elements are written and read where they lie

#include <rte_config.h>

#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_ring_peek_zc.h>

#include "dpdk.hpp"

namespace {

constexpr unsigned max_batch = 1024;

/// A thread that is no lcore has no cache in the mempool, and DPDK would look slow.
void register_lcore() {
    if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0) bench::die("rte_thread_register failed");
}

bench::measured frames(const bench::options& o) {
    rte_mempool* pool = rte_pktmbuf_pool_create("pool", 4095, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    rte_ring* ring = rte_ring_create("ring", o.slots, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (pool == nullptr || ring == nullptr) bench::die("no memory for the pool and the ring");
    bench::tally sent, received;
    const auto produce = [&]() noexcept -> std::uint64_t {
        std::array<rte_mbuf*, max_batch> m;
        if (rte_ring_free_count(ring) < o.batch || rte_pktmbuf_alloc_bulk(pool, m.data(), o.batch) != 0) return 0;
        for (unsigned i = 0; i < o.batch; ++i) {
            bench::fill_frame(rte_pktmbuf_mtod(m[i], void*), sent.packets++);
            m[i]->data_len = bench::frame_bytes;
            m[i]->pkt_len = bench::frame_bytes;
        }
        return rte_ring_sp_enqueue_bulk(ring, reinterpret_cast<void**>(m.data()), o.batch, nullptr);
    };
    const auto consume = [&]() noexcept -> std::uint64_t {
        std::array<rte_mbuf*, max_batch> m;
        const unsigned n = rte_ring_sc_dequeue_burst(ring, reinterpret_cast<void**>(m.data()), o.batch, nullptr);
        if (n == 0) return 0;
        for (unsigned i = 0; i < n; ++i) {
            if (i + 4 < n) rte_prefetch0(rte_pktmbuf_mtod(m[i + 4], void*));
            received.sum += bench::read_frame(rte_pktmbuf_mtod(m[i], const void*));
        }
        rte_pktmbuf_free_bulk(m.data(), n);
        received.packets += n;
        return n;
    };
    const bench::measured rate = bench::channel_rate(o, produce, consume, register_lcore);
    if (received.sum != bench::expected_sum(received.packets)) bench::die("frames were lost or repeated");
    return rate;
}

struct element {
    std::uint32_t buf_idx;
    std::uint16_t len, flags;
    std::uint64_t ptr;
};

bench::measured slots(const bench::options& o) {
    rte_ring* ring = rte_ring_create_elem("ring", sizeof(element), o.slots, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (ring == nullptr) bench::die("no memory for the ring");
    bench::tally sent, received;
    const auto produce = [&]() noexcept -> std::uint64_t {
        rte_ring_zc_data at;
        const unsigned n = rte_ring_enqueue_zc_bulk_elem_start(ring, sizeof(element), o.batch, &at, nullptr);
        if (n == 0) return 0;
        const auto write = [&](void* p, unsigned count) {
            auto* e = static_cast<element*>(p);
            for (unsigned i = 0; i < count; ++i, ++sent.packets)
                e[i] = element{static_cast<std::uint32_t>(sent.packets & 1023), bench::slot_length(sent.packets), 0, 0};
        };
        write(at.ptr1, at.n1);
        if (at.n1 != n) write(at.ptr2, n - at.n1);
        rte_ring_enqueue_zc_elem_finish(ring, n);
        return n;
    };
    const auto consume = [&]() noexcept -> std::uint64_t {
        rte_ring_zc_data at;
        const unsigned n = rte_ring_dequeue_zc_bulk_elem_start(ring, sizeof(element), o.batch, &at, nullptr);
        if (n == 0) return 0;
        const auto read = [&](const void* p, unsigned count) {
            const auto* e = static_cast<const element*>(p);
            for (unsigned i = 0; i < count; ++i) received.sum += e[i].len;
        };
        read(at.ptr1, at.n1);
        if (at.n1 != n) read(at.ptr2, n - at.n1);
        rte_ring_dequeue_zc_elem_finish(ring, n);
        received.packets += n;
        return n;
    };
    const bench::measured rate = bench::channel_rate(o, produce, consume);
    if (received.sum != bench::expected_lengths(received.packets)) bench::die("elements were lost");
    return rate;
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "frames";
    const double pingpong = bench::pingpong_ns(o);
    bench::start_eal("0@0,1@1");
    const bench::measured rate = o.work == "slots" ? slots(o) : frames(o);
    bench::report_two(o, o.work == "slots" ? "rte_ring zero-copy" : "rte_ring + mbuf pool", rate, pingpong);
    std::fflush(stdout);
    std::_Exit(0);  // nothing in this process is worth rte_eal_cleanup's time
}
