// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// nmctl metrics: what all hosts of switches and pipes count, for Prometheus and its like.
#include <optional>
#include <sys/signalfd.h>

#include "common/hosts.hpp"
#include "common/metrics_file.hpp"
#include "common/signals.hpp"
#include "common/values.hpp"
#include "settings.hpp"

namespace nmctl {
namespace {

void fill(tool::metrics& m, const nm::sys::runtime_dir& dir) {
    for (const auto& h : tool::look_at_hosts(dir, [](const std::string& why) { tool::print_err("nmctl: " + why + "\n"); })) tool::add_host(m, h);
}

/// Hosts are asked a few times a second, however many ask this.
class scrape {
public:
    explicit scrape(const nm::sys::runtime_dir& dir) : dir_(dir) {}
    [[nodiscard]] std::string operator()() {
        const auto now = nm::system_clock::now_ns();
        if (text_.empty() || now - then_ > 200'000'000) {
            tool::metrics m;
            tool::add_version(m, "nmctl");
            fill(m, dir_);
            text_ = m.text();
            then_ = nm::system_clock::now_ns();
        }
        return text_;
    }

private:
    const nm::sys::runtime_dir& dir_;
    std::string text_;
    std::uint64_t then_ = 0;
};

int answer_scrapers(const nm::sys::runtime_dir& dir, const listen_address& at, double seconds) {
    const sigset_t signals = tool::ending_signals();
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    const nm::base::unique_fd stop(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    auto server = http_server::open(at);
    if (!stop || !server) throw tool::run_error("--listen: " + (server ? std::string("cannot make a signalfd") : server.error().text));
    tool::print_err(fmt::format("nmctl: http://{}/metrics\n", server->where()));
    scrape body(dir);
    server->serve(stop.get(), seconds > 0 ? static_cast<int>(std::min(seconds * 1000, 2e9)) : -1, [&body] { return body(); });
    return tool::exit_ok;
}

}  // namespace

int metrics_command(settings& s) {
    if (!s.words.empty())
        throw tool::usage_error("\"" + s.words[0] + "\" stands alone; all switches are told, and valectl -l NAME --metrics - tells one");
    if (s.listen && !s.file.empty()) throw tool::usage_error("--listen and -o: one or the other");
    if (!s.listen && s.seconds > 0) throw tool::usage_error("--time is for --listen");
    auto dir = nm::sys::runtime_dir::open();
    if (!dir) throw tool::run_error(dir.error().text);
    if (s.listen) return answer_scrapers(*dir, *s.listen, s.seconds);
    tool::metrics_file file("nmctl", s.file.empty() ? "-" : s.file);
    file.last([&](tool::metrics& m) { fill(m, *dir); });
    return tool::exit_ok;
}

}  // namespace nmctl
