// SPDX-License-Identifier: BSD-2-Clause
// needs: asio
// A port in an asio program: wrap its descriptor, arm, async_wait, take what is there. Sender and receiver in one thread.
#define ASIO_STANDALONE
#include <asio.hpp>
#include <cstdio>
#include <cstring>

#include "nm/nm.hpp"

namespace {

constexpr std::uint32_t count = 100'000;

/// Calls `work` whenever the port has what is wanted, until it returns false.
template <class Port, class Work>
class watcher {
public:
    watcher(asio::io_context& io, Port& port, nm::events wanted, Work work)
        : port_(port), wanted_(wanted), work_(std::move(work)), descriptor_(io, ::dup(port.fd())) {
        next();
    }

private:
    void next() {
        port_.arm(wanted_);
        descriptor_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const asio::error_code& failed) {
            if (!failed && work_(port_)) next();
        });
    }

    Port& port_;
    nm::events wanted_;
    Work work_;
    asio::posix::stream_descriptor descriptor_;  // of a duplicate: the port closes its own
};

}  // namespace

int main() {
    nm::context ctx;
    auto tx = nm::open<nm::pipe>(ctx, "netmap:p{1");
    auto rx = nm::open<nm::pipe>(ctx, "netmap:p}1");
    asio::io_context io;
    std::uint32_t sent = 0;
    std::uint32_t received = 0;
    bool in_order = true;

    const watcher sender(io, tx, nm::events::tx, [&](nm::pipe& port) {
        nm::generate(port, std::min(256U, count - sent), [&](nm::frame& f) noexcept {
            std::memset(f.data(), 0, 60);
            std::memcpy(f.data() + 14, &sent, sizeof sent);
            f.resize(60);
            ++sent;
        });
        return sent < count;
    });
    const watcher receiver(io, rx, nm::events::rx, [&](nm::pipe& port) {
        nm::drain(port, 256, [&](nm::frame& f) noexcept {
            std::uint32_t number = 0;
            std::memcpy(&number, f.data() + 14, sizeof number);
            in_order = in_order && number == received++;
        });
        return received < count;
    });
    io.run();

    std::printf("%u frames sent, %u received, %s\n", sent, received, in_order ? "in order" : "OUT OF ORDER");
    return in_order && sent == count && received == count ? 0 : 1;
}
