// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// As much of an HTTP/1.1 server (RFC 9110, RFC 9112) as a scraper needs: GET and HEAD of one text, one answer per connection. Whoever
// connects may be anybody: what a client can have is a slot, a few kilobytes and a few seconds, and nobody is waited for.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <sys/socket.h>

#include "nm/base/os.hpp"
#include "nm/result.hpp"

namespace nmctl {

/// "9100" (on loopback), "192.0.2.1:9100", "[::1]:9100"; port 0: any that is free. Throws usage_error.
struct listen_address {
    sockaddr_storage address{};
    socklen_t size = 0;
};
[[nodiscard]] listen_address parse_listen(std::string_view text);

/// What to answer to a request that is whole. `body` is called for what is wanted, and not otherwise.
[[nodiscard]] std::string http_answer(std::string_view request, const std::function<std::string()>& body);

class http_server {
public:
    static constexpr std::size_t most_clients = 32, most_request = 8192;
    static constexpr std::uint64_t patience_ns = 5'000'000'000;

    [[nodiscard]] static nm::result<http_server> open(const listen_address& at);
    /// Where it listens: "127.0.0.1:9100".
    [[nodiscard]] std::string where() const;
    /// Serves until `stop` (a descriptor) is readable, or so many milliseconds have passed (-1: no end).
    void serve(int stop, int timeout_ms, const std::function<std::string()>& body);

private:
    struct client {
        nm::base::unique_fd fd;
        std::uint64_t until = 0;
        std::string request, answer;
        std::size_t sent = 0;
        bool answered = false;  ///< all was sent; it has to close now
        bool said_all = false;  ///< it sends no more, and may want its answer all the same
    };
    void hold_spares();
    void accept();
    /// False when it is over.
    [[nodiscard]] bool serve(client& c, const std::function<std::string()>& body);
    void read(client& c);

    nm::base::unique_fd listener_;
    std::array<nm::base::unique_fd, 4> spares_;  ///< descriptors that no client gets: body's
    std::list<client> clients_;
};

}  // namespace nmctl
