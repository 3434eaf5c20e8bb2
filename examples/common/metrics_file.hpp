// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

#include "common/metrics.hpp"
#include "common/report.hpp"

#include "nm/base/os.hpp"

namespace tool {

inline constexpr std::string_view metrics_help =
    "write the counters as OpenMetrics text into this file, anew with each report and at the end, whole or not at all; - is standard "
    "output, at the end";

[[nodiscard]] inline std::string metrics_name(std::string_view text) {
    if (text.empty()) throw usage_error("the name of the file is empty");
    return std::string(text);
}

/// --metrics FILE. Who reads the file finds one whole text or the next, since a new one takes its name.
class metrics_file {
public:
    /// Empty: none is wanted.
    metrics_file(std::string_view tool, const std::string& name) : tool_(tool), name_(name) {
        struct stat st {};
        if (name.empty() || on_stdout()) return;
        const bool there = ::lstat(name_.c_str(), &st) == 0;
        if (there && S_ISLNK(st.st_mode)) {
            follow(st.st_uid);
            // Taking the name of a device would be the end of it.
            plain_ = ::stat(name_.c_str(), &st) != 0 || S_ISREG(st.st_mode);
        } else {
            plain_ = !there || S_ISREG(st.st_mode);
        }
    }

    [[nodiscard]] bool wanted() const noexcept { return !name_.empty(); }
    [[nodiscard]] bool on_stdout() const noexcept { return name_ == "-"; }

    /// The first time, a file that cannot be written is an error; later it is said once, since there is work to be done.
    template <class Fill>
    void interval(Fill&& fill) {
        if (!wanted() || on_stdout()) return;
        const std::string why = write(text_of(fill));
        if (why.empty()) written_ = true;
        else if (!written_) throw run_error(why);
        else if (!std::exchange(complained_, true)) print_err(std::string(tool_) + ": " + why + "\n");
    }
    template <class Fill>
    void last(Fill&& fill) {
        if (!wanted()) return;
        if (on_stdout()) return print_out(text_of(fill));
        if (const std::string why = write(text_of(fill)); !why.empty()) throw run_error(why);
    }

private:
    /// To what the link of this user stands for. In a directory that all may write to (/tmp) anybody can have laid it there, and would
    /// choose what root replaces. The kernel refuses such links (protected_symlinks, proc(5)), if it is told to, and not to who only reads them.
    void follow(uid_t owner) {
        struct stat dir {};
        const auto slash = name_.rfind('/');
        const std::string folder = slash == name_.npos ? "." : name_.substr(0, slash + 1);
        constexpr mode_t anybodys = S_ISVTX | S_IWOTH;
        if (::stat(folder.c_str(), &dir) == 0 && (dir.st_mode & anybodys) == anybodys && owner != ::geteuid() && owner != dir.st_uid)
            throw run_error(fmt::format("--metrics: \"{}\" is a link of user {}, in a directory that all may write to; remove it, or write elsewhere", name_, owner));
        std::error_code none;
        if (const auto real = std::filesystem::canonical(name_, none); !none) name_ = real.string();
    }

    template <class Fill>
    [[nodiscard]] std::string text_of(Fill& fill) const {
        metrics m;
        add_version(m, tool_);
        fill(m);
        return m.text();
    }

    /// What was wrong, or nothing.
    [[nodiscard]] std::string write(const std::string& text) const {
        const auto slash = name_.rfind('/');
        // One name of ours beside the file: what a killed run has left the next one takes.
        const std::string made = plain_ ? name_.substr(0, slash + 1) + "." + name_.substr(slash + 1) + ".new" : name_;
        if (plain_) ::unlink(made.c_str());
        const nm::base::unique_fd fd(::open(made.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (plain_ ? O_CREAT | O_EXCL | O_NOFOLLOW : 0), 0644));
        if (!fd) return trouble();
        for (std::size_t done = 0; done < text.size();) {
            const ssize_t n = ::write(fd.get(), text.data() + done, text.size() - done);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                auto why = trouble();
                if (plain_) ::unlink(made.c_str());
                return why;
            }
            done += static_cast<std::size_t>(n);
        }
        if (plain_ && ::rename(made.c_str(), name_.c_str()) != 0) {
            auto why = trouble();
            ::unlink(made.c_str());
            return why;
        }
        return {};
    }
    [[nodiscard]] std::string trouble() const { return "the metrics: cannot write \"" + name_ + "\": " + nm::base::errno_text(errno); }

    std::string_view tool_;
    std::string name_;
    bool plain_ = true, written_ = false, complained_ = false;
};

}  // namespace tool
