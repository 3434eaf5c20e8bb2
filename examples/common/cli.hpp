// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One table per tool: the letters, the long names, the help and, one day, the manual page come from it.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/failure.hpp"

namespace tool {

template <class Settings>
struct option {
    char letter;  ///< 0: long name only
    std::string_view name;
    std::string_view argument;  ///< what it is called in the help; empty: takes none
    std::string_view help;
    void (*set)(Settings&, std::string_view value);
};

namespace detail {

template <class Settings>
[[nodiscard]] std::string spelled(const option<Settings>& o) {
    const std::string name = "--" + std::string(o.name);
    return o.letter ? std::string("-") + o.letter + ", " + name : name;
}

template <class Settings>
void apply(const option<Settings>& o, Settings& s, std::string_view value) {
    try {
        o.set(s, value);
    } catch (const usage_error& e) {
        throw usage_error(spelled(o) + ": " + e.what());
    }
}

template <class Settings>
[[nodiscard]] const option<Settings>& by_letter(std::span<const option<Settings>> table, char c) {
    for (const auto& o : table)
        if (o.letter == c && c != 0) return o;
    throw usage_error(std::string("-") + c + " is no option of this program");
}

template <class Settings>
[[nodiscard]] const option<Settings>& by_name(std::span<const option<Settings>> table, std::string_view name) {
    for (const auto& o : table)
        if (o.name == name) return o;
    throw usage_error("--" + std::string(name) + " is no option of this program");
}

template <class Settings>
[[nodiscard]] usage_error no_value(const option<Settings>& o) {
    return usage_error(spelled(o) + " wants a value: " + std::string(o.argument));
}

}  // namespace detail

/// Takes `argv` apart by the table, as getopt does: -n10, -n 10, -46, --count 10, --count=10. Throws usage_error.
template <class Settings>
void parse_options(std::span<const option<Settings>> table, std::span<char* const> args, Settings& s) {
    for (std::size_t i = 0; i < args.size(); ++i) {
        const std::string_view a = args[i];
        if (a.size() < 2 || a[0] != '-')
            throw usage_error("\"" + std::string(a) + "\" stands alone; every argument of this program has an option");
        if (a == "--") continue;
        if (a[1] == '-') {
            const std::size_t eq = a.find('=');
            const auto& o = detail::by_name(table, a.substr(2, eq == std::string_view::npos ? eq : eq - 2));
            if (o.argument.empty()) {
                if (eq != std::string_view::npos) throw usage_error("--" + std::string(o.name) + " takes no value");
                detail::apply(o, s, {});
            } else if (eq != std::string_view::npos) {
                detail::apply(o, s, a.substr(eq + 1));
            } else {
                if (++i == args.size()) throw detail::no_value(o);
                detail::apply(o, s, args[i]);
            }
            continue;
        }
        for (std::size_t at = 1; at < a.size(); ++at) {
            const auto& o = detail::by_letter(table, a[at]);
            if (o.argument.empty()) {
                detail::apply(o, s, {});
                continue;
            }
            if (at + 1 < a.size()) {
                detail::apply(o, s, a.substr(at + 1));
            } else {
                if (++i == args.size()) throw detail::no_value(o);
                detail::apply(o, s, args[i]);
            }
            break;
        }
    }
}

/// The table as people read it, wrapped to 100 columns.
template <class Settings>
[[nodiscard]] std::string help_text(std::span<const option<Settings>> table) {
    constexpr std::size_t column = 30;
    constexpr std::size_t width = 100;
    std::string out;
    for (const auto& o : table) {
        std::string line = o.letter ? std::string("  -") + o.letter + ", --" : std::string("      --");
        line += o.name;
        if (!o.argument.empty()) line += " " + std::string(o.argument);
        line += line.size() + 1 < column ? std::string(column - line.size(), ' ') : "\n" + std::string(column, ' ');
        std::size_t used = column;
        for (std::size_t at = 0; at < o.help.size();) {
            const std::size_t end = std::min(o.help.find(' ', at), o.help.size());
            const std::string_view word = o.help.substr(at, end - at);
            if (used != column && used + 1 + word.size() > width) {
                line += "\n" + std::string(column, ' ');
                used = column;
            }
            if (used != column) {
                line += ' ';
                ++used;
            }
            line += word;
            used += word.size();
            at = end + 1;
        }
        out += line + "\n";
    }
    return out;
}

}  // namespace tool
