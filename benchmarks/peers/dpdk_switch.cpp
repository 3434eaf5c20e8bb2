// SPDX-License-Identifier: BSD-2-Clause

// A learning bridge made of DPDK's parts: a port is two rte_rings (what it sends, what it receives) and, where frames are
// copied, a pool of its own; stations are in an rte_hash with 6-byte keys. Works:
//   copy  into an mbuf of the receiver's pool
//   swap  the mbuf itself goes over: all ports have one pool
//
// In the peer's favour: rings for one producer and one consumer, although a switch has many senders; bulk look-ups and
// bulk allocation; no ageing; a CRC as the hash and a comparison written for six bytes; the source is looked up only
// where it is not the one before.

#include "dpdk.hpp"

#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memcpy.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include <memory>

#include "switch.hpp"

namespace {

constexpr unsigned max_batch = 1024, bulk = RTE_HASH_LOOKUP_BULK_MAX;

std::uint64_t load_mac(const void* at) noexcept {
    std::uint32_t low = 0;
    std::uint16_t high = 0;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, static_cast<const char*>(at) + 4, 2);
    return low | std::uint64_t{high} << 32;
}
std::uint32_t hash_mac(const void* key, std::uint32_t, std::uint32_t seed) { return rte_hash_crc_8byte(load_mac(key), seed); }
int compare_macs(const void* a, const void* b, std::size_t) { return load_mac(a) != load_mac(b); }

/// rte_pktmbuf_pool_create's steps with one flag more. Without hugepages it would give each mbuf a page of its own, as a
/// device might want it; on one core all of them would then meet in a few sets of its cache, and DPDK would look half as
/// fast. (Between two cores it is the other way: there mbufs that leave one core's cache are faster for the other.)
rte_mempool* make_pool(const std::string& name, unsigned mbufs) {
    rte_pktmbuf_pool_private priv{};
    priv.mbuf_data_room_size = RTE_MBUF_DEFAULT_BUF_SIZE;
    rte_mempool* pool = rte_mempool_create_empty(name.c_str(), mbufs, sizeof(rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE, 256, sizeof priv,
                                                 SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
    if (pool == nullptr || rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), nullptr) != 0) bench::die("no memory for a pool of mbufs");
    rte_pktmbuf_pool_init(pool, &priv);
    if (rte_mempool_populate_default(pool) < 0) bench::die("no memory for a pool of mbufs");
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
    return pool;
}

struct port {
    rte_ring* sends = nullptr;
    rte_ring* receives = nullptr;
    rte_mempool* pool = nullptr;
    std::array<rte_mbuf*, max_batch> batch{};  ///< on its way to this port
    unsigned count = 0;
};

template <bool Copy>
class bridge {
public:
    explicit bridge(const bench::options& o, std::size_t stations) : ports_(o.ports + 1) {
        rte_hash_parameters p{};
        p.name = "stations";
        p.entries = static_cast<std::uint32_t>(std::max<std::size_t>(1024, 4 * stations));
        p.key_len = 6;
        p.hash_func = hash_mac;
        p.socket_id = SOCKET_ID_ANY;
        table_ = rte_hash_create(&p);
        if (table_ == nullptr) bench::die("no memory for the rte_hash");
        rte_hash_set_cmp_func(table_, compare_macs);
        for (unsigned i = 0; i < ports_.size(); ++i) {
            const auto name = [i](const char* what) { return what + std::to_string(i); };
            const auto ring = [&](const char* what) {
                return rte_ring_create(name(what).c_str(), o.slots, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
            };
            port& q = ports_[i];
            q.sends = ring("sends"), q.receives = ring("receives");
            q.pool = Copy || i == 0 ? make_pool(name("pool"), 4095) : ports_[0].pool;
            if (q.sends == nullptr || q.receives == nullptr) bench::die("no memory for the rings");
        }
    }
    ~bridge() { rte_hash_free(table_); }

    port& at(unsigned p) noexcept { return ports_[p]; }

    void learn(const void* address, unsigned from) noexcept { rte_hash_add_key_data(table_, address, as_data(from)); }

    /// Up to a batch of what port `from` has sent goes where it belongs.
    void forward(unsigned from, unsigned max) noexcept {
        std::array<rte_mbuf*, max_batch> m;
        const unsigned n = rte_ring_sc_dequeue_burst(ports_[from].sends, reinterpret_cast<void**>(m.data()), max, nullptr);
        for (unsigned i = 0; i < n; i += bulk) classify(m.data() + i, std::min(bulk, n - i), from);
        for (unsigned i = 0; i < num_used_; ++i) deliver(*used_[i]);
        num_used_ = 0;
        if constexpr (Copy) rte_pktmbuf_free_bulk(m.data(), n);
    }

private:
    static void* as_data(unsigned p) noexcept { return reinterpret_cast<void*>(std::uintptr_t{p}); }
    static unsigned as_port(void* data) noexcept { return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(data)); }

    void classify(rte_mbuf** m, unsigned n, unsigned from) noexcept {
        std::array<const void*, bulk> keys;
        std::array<void*, bulk> where{};
        std::uint64_t hits = 0;
        unsigned sources = 0;
        for (unsigned i = 0; i < n; ++i) {
            const char* source = rte_pktmbuf_mtod(m[i], const char*) + 6;
            const std::uint64_t address = load_mac(source);
            if (address == last_source_) continue;
            last_source_ = address;
            keys[sources++] = source;
        }
        if (sources != 0) {
            look_up(keys, sources, hits, where);
            for (unsigned i = 0; i < sources; ++i)
                if ((hits >> i & 1) == 0 || as_port(where[i]) != from) learn(keys[i], from);
        }
        for (unsigned i = 0; i < n; ++i) keys[i] = rte_pktmbuf_mtod(m[i], const void*);
        look_up(keys, n, hits, where);
        for (unsigned i = 0; i < n; ++i) {
            if ((hits >> i & 1) == 0) flood(m[i], from);
            else if (as_port(where[i]) != from) append(ports_[as_port(where[i])], m[i]);
            else if constexpr (!Copy) rte_pktmbuf_free(m[i]);
        }
    }

    void look_up(std::array<const void*, bulk>& keys, unsigned n, std::uint64_t& hits, std::array<void*, bulk>& where) noexcept {
        if (n == 1) hits = rte_hash_lookup_data(table_, keys[0], where.data()) >= 0;
        else rte_hash_lookup_bulk_data(table_, keys.data(), n, &hits, where.data());
    }

    void append(port& to, rte_mbuf* m) noexcept {
        if (to.count == 0) used_[num_used_++] = &to;
        to.batch[to.count++] = m;
    }

    [[gnu::noinline, gnu::cold]] void flood(rte_mbuf* m, unsigned from) noexcept {
        if constexpr (!Copy) rte_mbuf_refcnt_update(m, static_cast<std::int16_t>(ports_.size() - 2));
        for (unsigned p = 0; p < ports_.size(); ++p)
            if (p != from) append(ports_[p], m);
    }

    static void deliver(port& to) noexcept {
        rte_mbuf** out = to.batch.data();
        std::array<rte_mbuf*, max_batch> copies;
        unsigned n = std::exchange(to.count, 0);
        if constexpr (Copy) {
            if (rte_pktmbuf_alloc_bulk(to.pool, copies.data(), n) != 0) return;
            for (unsigned i = 0; i < n; ++i) {
                const unsigned length = out[i]->data_len;
                rte_memcpy(rte_pktmbuf_mtod(copies[i], void*), rte_pktmbuf_mtod(out[i], const void*), length);
                copies[i]->pkt_len = length;
                copies[i]->data_len = static_cast<std::uint16_t>(length);
            }
            out = copies.data();
        }
        const unsigned taken = rte_ring_sp_enqueue_burst(to.receives, reinterpret_cast<void**>(out), n, nullptr);
        if (taken != n) rte_pktmbuf_free_bulk(out + taken, n - taken);
    }

    std::vector<port> ports_;
    std::array<port*, 254> used_{};  ///< by the batch under way
    unsigned num_used_ = 0;
    rte_hash* table_ = nullptr;
    std::uint64_t last_source_ = 0;
};

template <bool Copy>
void sample(const bench::options& o, const char* name) {
    bench::traffic t(o);
    const auto b = std::make_unique<bridge<Copy>>(o, t.flows().size());
    for (const auto& f : t.flows()) b->learn(&f.to, f.port + 1);
    port& sender = b->at(0);
    bench::tally received;
    bench::run_switch(
        o, name, t, received,
        [&]() noexcept {
            std::array<rte_mbuf*, max_batch> m;
            if (rte_pktmbuf_alloc_bulk(sender.pool, m.data(), o.batch) != 0) bench::die("the pool is empty");
            auto batch = t.next();
            for (unsigned i = 0; i < o.batch; ++i) {
                batch.fill(rte_pktmbuf_mtod(m[i], void*));
                m[i]->pkt_len = m[i]->data_len = bench::frame_bytes;
            }
            t.sent(batch);
            rte_ring_sp_enqueue_bulk(sender.sends, reinterpret_cast<void**>(m.data()), o.batch, nullptr);
            b->forward(0, o.batch);
        },
        [&](unsigned p) noexcept -> std::uint64_t {
            std::array<rte_mbuf*, max_batch> m;
            const unsigned n = rte_ring_sc_dequeue_burst(b->at(p + 1).receives, reinterpret_cast<void**>(m.data()), o.batch, nullptr);
            std::uint64_t sum = 0;
            for (unsigned i = 0; i < n; ++i) {
                if (i + 4 < n) rte_prefetch0(rte_pktmbuf_mtod(m[i + 4], void*));
                sum += bench::read_frame(rte_pktmbuf_mtod(m[i], const void*));
            }
            rte_pktmbuf_free_bulk(m.data(), n);
            received.sum += sum;
            received.packets += n;
            return n;
        });
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "copy";
    if (o.work != "copy" && o.work != "swap") bench::die("--work copy or swap", 2);
    bench::start_eal("0@" + std::to_string(o.cpu_b));
    if (o.work == "copy") sample<true>(o, "DPDK rings + rte_hash, copy");
    else sample<false>(o, "DPDK rings + rte_hash, pointers");
    std::fflush(stdout);
    std::_Exit(0);  // nothing in this process is worth rte_eal_cleanup's time
}
