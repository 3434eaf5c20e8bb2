// SPDX-License-Identifier: BSD-2-Clause

// DPDK's way between two processes, net_memif, as its documentation has it: the producer takes a batch from its pool, fills 60 bytes of
// each mbuf and sends it; the consumer receives, reads 60 bytes and gives the batch back to its pool. --mode zero-copy: the
// producer's mbufs are the shared memory.

#include <rte_config.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <filesystem>

#include "sample.hpp"

namespace {

constexpr unsigned max_batch = 1024;

struct memif {
    rte_mempool* pool;
    std::uint16_t port = 0;
};

// One side, in the process that uses it.
memif start(const bench::options& o, const std::string& dir, bool server) {
    const bool zero_copy = o.mode == "zero-copy";
    const std::string vdev = "--vdev=net_memif0,role=" + std::string(server ? "server" : "client") + ",id=0,socket-abstract=no,socket=" + dir +
                             "/memif.sock,rsize=" + std::to_string(std::bit_width(o.slots) - 1) + (zero_copy && !server ? ",zero-copy=yes" : "");
    const std::string lcores = "0@" + std::to_string(server ? o.cpu_b : o.cpu_a);
    const std::string prefix = std::string("--file-prefix=nm-memif-") + (server ? "s" : "c");
    std::vector<const char*> args{"bench", "--no-huge", "--no-pci", "-m", "512", "--no-telemetry", "--no-shconf", "--log-level=3", "--lcores", lcores.c_str(), vdev.c_str(), prefix.c_str()};
    if (zero_copy) args.push_back("--single-file-segments");
    std::vector<char*> argv;
    for (const char* a : args) argv.push_back(const_cast<char*>(a));
    if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0) bench::die("rte_eal_init failed");
    constexpr auto any_socket = static_cast<unsigned>(SOCKET_ID_ANY);
    memif m{rte_pktmbuf_pool_create("pool", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY)};
    rte_eth_conf conf{};
    if (m.pool == nullptr || rte_eth_dev_count_avail() != 1 || rte_eth_dev_configure(m.port, 1, 1, &conf) != 0 ||
        rte_eth_rx_queue_setup(m.port, 0, static_cast<std::uint16_t>(o.slots), any_socket, nullptr, m.pool) != 0 ||
        rte_eth_tx_queue_setup(m.port, 0, static_cast<std::uint16_t>(o.slots), any_socket, nullptr) != 0 || rte_eth_dev_start(m.port) != 0)
        bench::die("no memif device");
    rte_eth_link link{};
    for (const double since = bench::now(); link.link_status == 0; rte_eth_link_get_nowait(m.port, &link)) {
        if (bench::now() - since > 8) bench::die("memif finds no peer");
        ::usleep(1000);  // a thread of DPDK's connects the two
    }
    return m;
}

bench::measured frames(const bench::options& o, const std::string& dir) {
    bench::tally received;
    const auto produce = [&] {
        // A client that comes before its server now and then never finds it.
        for (const double since = bench::now(); !std::filesystem::exists(dir + "/memif.sock") && bench::now() - since < 8;) ::usleep(1000);
        ::usleep(100'000);
        return [&, m = start(o, dir, false), sent = std::uint64_t{0}]() mutable noexcept -> std::uint64_t {
            std::array<rte_mbuf*, max_batch> b;
            if (rte_pktmbuf_alloc_bulk(m.pool, b.data(), o.batch) != 0) {
                rte_eth_tx_done_cleanup(m.port, 0, 0);
                return 0;
            }
            for (unsigned i = 0; i < o.batch; ++i) {
                bench::fill_frame(rte_pktmbuf_mtod(b[i], void*), sent + i);
                b[i]->data_len = bench::frame_bytes;
                b[i]->pkt_len = bench::frame_bytes;
            }
            unsigned n = 0;
            for (unsigned tries = 0; n < o.batch && tries < 1'000'000; ++tries)  // what was filled is sent
                n += rte_eth_tx_burst(m.port, 0, b.data() + n, static_cast<std::uint16_t>(o.batch - n));
            sent += n;
            if (n < o.batch) rte_pktmbuf_free_bulk(b.data() + n, o.batch - n);
            return n;
        };
    };
    const auto consume = [&] {
        return [&, m = start(o, dir, true)]() noexcept -> std::uint64_t {
            std::array<rte_mbuf*, max_batch> b;
            const unsigned n = rte_eth_rx_burst(m.port, 0, b.data(), static_cast<std::uint16_t>(o.batch));
            if (n == 0) return 0;
            for (unsigned i = 0; i < n; ++i) {
                if (i + 4 < n) rte_prefetch0(rte_pktmbuf_mtod(b[i + 4], void*));
                received.sum += bench::read_frame(rte_pktmbuf_mtod(b[i], const void*));
            }
            rte_pktmbuf_free_bulk(b.data(), n);
            received.packets += n;
            return n;
        };
    };
    const bench::measured rate = bench::process_rate(o, produce, consume);
    if (received.sum != bench::expected_sum(received.packets)) bench::die("frames were lost or repeated");
    return rate;
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "frames";
    std::string dir = (std::filesystem::temp_directory_path() / "nm-memif-XXXXXX").string();
    if (::mkdtemp(dir.data()) == nullptr) bench::die("no place for a socket");
    const double pingpong = bench::pingpong_ns(o);
    const bench::measured rate = frames(o, dir);
    bench::remove_folder(dir);
    bench::report_two(o, o.mode == "zero-copy" ? "net_memif, zero-copy" : "net_memif", rate, pingpong);
}
