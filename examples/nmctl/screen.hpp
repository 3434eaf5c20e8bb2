// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A terminal in full, with plain ANSI sequences: the alternate screen, so that what was there before is there again afterwards.

#include <csignal>
#include <cstdlib>
#include <optional>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "common/report.hpp"

#include "nm/base/os.hpp"

namespace nmctl {

/// NO_COLOR (no-color.org), and terminals that say that they can do nothing.
[[nodiscard]] inline bool wants_colour() {
    const char* const no = std::getenv("NO_COLOR");
    const char* const term = std::getenv("TERM");
    return (no == nullptr || *no == 0) && term != nullptr && std::string_view(term) != "dumb";
}
[[nodiscard]] inline bool is_screen() {
    const char* const term = std::getenv("TERM");
    return ::isatty(0) != 0 && ::isatty(1) != 0 && term != nullptr && *term != 0 && std::string_view(term) != "dumb";
}

/// What no terminal should be sent, replaced; an interface's name may have anything in it.
[[nodiscard]] inline std::string printable(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
    return out;
}

/// From here to its end the terminal is ours, and the signals that end a program come by a descriptor, so that it always gets back
/// what it was.
class screen {
public:
    screen() : colour_(wants_colour()) {
        sigset_t s;
        sigemptyset(&s);
        for (const int one : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH}) sigaddset(&s, one);
        ::sigprocmask(SIG_BLOCK, &s, &signals_before_);
        signals_.reset(::signalfd(-1, &s, SFD_CLOEXEC | SFD_NONBLOCK));
        if (!signals_ || ::tcgetattr(0, &before_) != 0) throw tool::run_error("this terminal cannot be used in full; --once prints plain lines");
        termios raw = before_;
        raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        ::tcsetattr(0, TCSANOW, &raw);
        put("\x1b[?1049h\x1b[?25l");
    }
    screen(const screen&) = delete;
    screen& operator=(const screen&) = delete;
    ~screen() {
        put("\x1b[0m\x1b[?25h\x1b[?1049l");
        ::tcsetattr(0, TCSANOW, &before_);
        ::sigprocmask(SIG_SETMASK, &signals_before_, nullptr);
    }

    struct event {
        bool end = false, resized = false;
        char key = 0;
    };
    /// Sleeps until a key, a signal, or so many milliseconds.
    [[nodiscard]] event wait(int timeout_ms) {
        pollfd fds[] = {{signals_.get(), POLLIN, 0}, {0, POLLIN, 0}};
        event e;
        if (::poll(fds, 2, timeout_ms) <= 0) return e;
        if ((fds[0].revents & POLLIN) != 0) {
            signalfd_siginfo info{};
            while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
                if (info.ssi_signo == SIGWINCH || info.ssi_signo == SIGTSTP) e.resized = true;  // it does not stop: the screen is not the shell's
                else e.end = true;
            }
        }
        if ((fds[1].revents & (POLLHUP | POLLERR)) != 0) e.end = true;
        if ((fds[1].revents & POLLIN) != 0 && ::read(0, &e.key, 1) == 0) e.end = true;
        return e;
    }

    struct extent {
        unsigned rows = 24, columns = 80;
    };
    [[nodiscard]] static extent size() {
        winsize w{};
        extent s;
        if (::ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_row != 0 && w.ws_col != 0) s = {w.ws_row, w.ws_col};
        return s;
    }

    /// All of it, line by line, each cut to the width and cleared behind; `bold` lines stand out where colours are wanted.
    struct line {
        std::string text;
        bool bold = false;
    };
    template <class Lines>
    void show(const Lines& lines) {
        const extent e = size();
        std::string out = "\x1b[H";
        unsigned row = 0;
        for (const line& l : lines) {
            if (row == e.rows) break;
            if (row++ != 0) out += "\r\n";
            const bool bold = l.bold && colour_;
            out += (bold ? "\x1b[1m" : "") + printable(l.text).substr(0, e.columns) + (bold ? "\x1b[0m" : "") + "\x1b[K";
        }
        put(out + "\x1b[J");
    }

private:
    static void put(std::string_view s) {
        for (std::size_t done = 0; done < s.size();) {
            const ssize_t n = ::write(1, s.data() + done, s.size() - done);
            if (n <= 0 && errno != EINTR && errno != EAGAIN) return;
            if (n > 0) done += static_cast<std::size_t>(n);
        }
    }

    bool colour_;
    nm::base::unique_fd signals_;
    sigset_t signals_before_{};
    termios before_{};
};

}  // namespace nmctl
