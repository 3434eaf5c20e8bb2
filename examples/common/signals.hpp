// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <csignal>

namespace tool {

/// What ends a program well, with its sums and whole files: ^C, kill, and a terminal that goes; the last not under nohup, which
/// ignores it.
[[nodiscard]] inline sigset_t ending_signals() noexcept {
    sigset_t all;
    sigemptyset(&all);
    sigaddset(&all, SIGINT);
    sigaddset(&all, SIGTERM);
    struct sigaction now {};
    // A signal that is blocked would come by a signalfd although it is ignored.
    if (::sigaction(SIGHUP, nullptr, &now) != 0 || now.sa_handler != SIG_IGN) sigaddset(&all, SIGHUP);
    return all;
}

namespace detail {
inline volatile std::sig_atomic_t told_to_end = 0;
}

/// For a program of one thread, which looks at told_to_end() between two rounds. Who presses ^C again wants out at once.
inline void listen_for_the_end() noexcept {
    const sigset_t all = ending_signals();
    for (const int s : {SIGINT, SIGTERM, SIGHUP})
        if (sigismember(&all, s) == 1)
            std::signal(s, [](int which) {
                detail::told_to_end = 1;
                std::signal(which, SIG_DFL);
            });
}
[[nodiscard]] inline bool told_to_end() noexcept { return detail::told_to_end != 0; }

}  // namespace tool
