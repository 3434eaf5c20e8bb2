// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// nm-host vale1: the process that a switch lives in, or what pipes of one name are kept by. Tools start it when they need it; it ends
// with the last that used it.
#include <csignal>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "board.hpp"
#include "common/main.hpp"
#include "common/open.hpp"

namespace {

using namespace std::chrono_literals;
using text = std::string_view;
volatile std::sig_atomic_t stopped = 0;

struct settings {
    std::string name;
    bool background = false, keep = false;

    void operand(text word) {
        if (!name.empty()) throw tool::usage_error("one name only: each switch has a host of its own");
        name = word;
    }
};

constexpr tool::option<settings> options[] = {
    {0, "background", "", "as a daemon; says on descriptor 3 what is wrong, and closes it when it listens", [](settings& s, text) { s.background = true; }},
    {0, "keep", "", "go on when nobody is left, until SIGINT or SIGTERM", [](settings& s, text) { s.keep = true; }},
};

/// Ten lines a second, whatever others do.
class limited_log {
public:
    void operator()(const std::string& line) {
        const auto now = std::chrono::steady_clock::now();
        if (now - since_ > 1s) {
            if (lines_ > 10) tool::print_err(fmt::format("nm-host: {} more lines\n", lines_ - 10));
            since_ = now;
            lines_ = 0;
        }
        if (++lines_ <= 10) tool::print_err("nm-host: " + line + "\n");
    }

private:
    std::chrono::steady_clock::time_point since_{};
    unsigned lines_ = 0;
};

/// The process that was started ends, and another one goes on, which nobody waits for.
void leave() {
    const pid_t pid = ::fork();
    if (pid < 0) throw tool::run_error("cannot make a process: " + nm::base::errno_text(errno));
    if (pid > 0) ::_exit(0);
    ::setsid();
    if (::chdir("/") != 0) return;
}

constexpr auto patience = 2s;  // with who connects and wants nothing, and for the first to come

int run(const settings& s) {
    std::signal(SIGINT, [](int) { stopped = 1; });
    std::signal(SIGTERM, [](int) { stopped = 1; });
    std::signal(SIGHUP, SIG_IGN);
    if (rlimit files{}; ::getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &files);
    }
    auto dir = nm::sys::runtime_dir::open();
    if (!dir) throw tool::run_error(dir.error().text);
    const std::string where = dir->path();
    auto server = nm::sys::control_server::create(std::move(*dir), s.name);
    if (!server && server.error().code.value() == EBUSY && s.background) return tool::exit_ok;  // another was faster, and is as good
    if (!server) throw tool::run_error(server.error().text);
    limited_log log;
    host::board board(**server, s.name, [&log](const std::string& line) { log(line); });
    if (s.background) ::close(3);
    else tool::print_err(fmt::format("nm-host: {} in {}, process {}\n", s.name, where, ::getpid()));
    while (stopped == 0) {
        (*server)->serve(board, board.waiting() ? 10ms : 200ms);
        board.tick();
        if (s.keep || !board.empty()) continue;
        if (board.quiet() > patience || ((*server)->clients() == 0 && (*server)->stats().accepted != 0)) break;
    }
    return tool::exit_ok;
}

constexpr tool::about self{
    .name = "nm-host",
    .usage = "nm-host [--keep] NAME",
    .purpose = "Is the host of a switch (valeNAME) or of pipes: what other processes open by that name lives here. Tools start it when they\n"
               "need it; valectl talks to it. It ends with the last port.\n",
    .operand = "NAME",
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) {
        if (s.name.empty()) throw tool::usage_error("say of what: nm-host vale0");
        if (auto ok = nm::sys::check_rendezvous(s.name); !ok) throw tool::usage_error(ok.error().text);
        if (!s.background) return run(s);
        leave();
        try {
            return run(s);
        } catch (const std::exception& e) {
            const std::string why = e.what();
            [[maybe_unused]] const auto n = ::write(3, why.data(), why.size());
            throw;
        }
    });
}
