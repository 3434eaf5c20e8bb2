// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the main() of every tool does: --help, --version, --describe, errors with a sentence and an exit status.

#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "common/cli.hpp"
#include "common/json.hpp"
#include "common/report.hpp"

#include "nm/version.hpp"

namespace tool {

/// What a tool says of itself. Its options are in a table; help, manual page and completion are made of both.
struct about {
    std::string_view name;
    std::string_view usage;    ///< how it is called: a line for each way, without "usage:"
    std::string_view purpose;  ///< what it does: lines that end with one
    std::string_view example = {};   ///< a command for who has nothing to try it on, without privileges
    std::string_view commands = {};  ///< a|b|c: what the first word may be
    std::string_view operand = {};   ///< what the (further) words are, called as in the table: PORT, FILE ...
    std::string (*built_in)() = nullptr;  ///< what this build has, for --version
};

namespace detail {

/// A standard descriptor that is closed would be the number of the next thing opened, and text would go into that.
inline void occupy_standard_descriptors() noexcept {
    for (int fd = 0; fd < 3; ++fd)
        if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0) return;
}

template <class Settings>
[[nodiscard]] std::string exits(std::span<const option<Settings>> table) {
    std::string out = "Exit status: 0 done, 1 failed, 2 usage";
    for (const auto& o : table)
        if (o.name.starts_with("expect-")) return out + ", 3 an expectation was not met.";
    return out + ".";
}

template <class Settings>
[[nodiscard]] std::string help(const about& self, std::span<const option<Settings>> table) {
    const auto indented = [](std::string_view lines, std::string_view by) {
        std::string out;
        for (const char c : lines) {
            out += c;
            if (c == '\n') out += by;
        }
        return out;
    };
    std::string out = fmt::format("usage: {}\n{}\n{}\n{}", indented(self.usage, "       "), self.purpose, help_text(table), exits(table));
    if (!self.example.empty()) out += fmt::format(" Without privileges, try\n  {}", indented(self.example, "  "));
    return out + "\n";
}

/// The same for scripts/make-manual.
template <class Settings>
[[nodiscard]] std::string description(const about& self, std::span<const option<Settings>> table) {
    std::string rows;
    for (const auto& o : rows_of(table))
        rows += (rows.empty() ? "" : ", ") + json()
                                                 .add("letter", std::string(o.letter != 0 ? 1 : 0, o.letter))
                                                 .add("name", o.name)
                                                 .add("argument", o.argument)
                                                 .add("help", o.help)
                                                 .add("values", o.values)
                                                 .text();
    return json()
               .add("name", self.name)
               .add("version", NM_VERSION_STRING)
               .add("usage", self.usage)
               .add("purpose", self.purpose)
               .add("exits", exits(table))
               .add("example", self.example)
               .add("commands", self.commands)
               .add("operand", self.operand)
               .raw("options", "[" + rows + "]")
               .text() +
           "\n";
}

}  // namespace detail

/// Usage errors are 2, all others 1, each with its sentence.
template <class Body>
[[nodiscard]] int guarded_main(std::string_view tool_name, Body&& body) noexcept {
    detail::occupy_standard_descriptors();
    std::signal(SIGPIPE, SIG_IGN);  // a reader that has gone is an error of write, told in a sentence
    try {
        return body();
    } catch (const usage_error& e) {
        print_err(fmt::format("{0}: {1}\nTry {0} --help.\n", tool_name, e.what()));
        return exit_usage;
    } catch (const std::system_error& e) {
        // what() is "sentence: strerror"; the sentence has said it.
        std::string text = e.what();
        const std::string tail = ": " + e.code().message();
        if (text.ends_with(tail)) text.resize(text.size() - tail.size());
        print_err(fmt::format("{}: {}\n", tool_name, text));
    } catch (const std::exception& e) {
        print_err(fmt::format("{}: {}\n", tool_name, e.what()));
    }
    return exit_failure;
}

/// A tool's main(): `work(settings)` gets what the command line says and returns the exit status.
template <class Settings, class Work>
[[nodiscard]] int tool_main(const about& self, std::span<const option<Settings>> table, int argc, char** argv, Work&& work) noexcept {
    return guarded_main(self.name, [&]() -> int {
        Settings s;
        const auto args = std::span<char* const>(argv, static_cast<std::size_t>(argc)).subspan(argc > 0 ? 1 : 0);
        switch (parse_options(table, args, s)) {
            case request::help: print_out(detail::help(self, table)); return exit_ok;
            case request::describe: print_out(detail::description(self, table)); return exit_ok;
            case request::version:
                print_out(fmt::format("{} (nm {}){}\n", self.name, NM_VERSION_STRING, self.built_in ? "; " + self.built_in() : ""));
                return exit_ok;
            case request::work: break;
        }
        return work(s);
    });
}

}  // namespace tool
