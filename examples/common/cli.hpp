// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One table per tool: the letters, the long names, the help, the manual page and the completion come from it.

#include <algorithm>
#include <array>
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
    std::string_view argument;  ///< what it is called in the help; empty: takes none; [in brackets]: may be left out
    std::string_view help;
    void (*set)(Settings&, std::string_view value);
    /// What a shell completes the value with, where `argument` does not say it: a|b|c, or what another argument is called
    /// (scripts/make-manual knows PORT, FILE and the like).
    std::string_view values = {};
};

/// What a command line asks for.
enum class request { work, help, version, describe };

/// What every tool knows. A tool that has the letter, or the name, for something of its own keeps it.
struct common_option {
    request what;
    char letter;
    std::string_view name, help;
};
inline constexpr std::array common_options{common_option{request::version, 'V', "version", "version and what is built in"},
                                           common_option{request::help, 'h', "help", "this"},
                                           common_option{request::describe, 0, "describe", {}}};

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

/// What an option is, once its letter or its name is known: the tool's, or common to all.
template <class Settings>
struct found {
    const option<Settings>* own;
    request common;
};

template <class Settings>
[[nodiscard]] found<Settings> by_letter(std::span<const option<Settings>> table, char c) {
    for (const auto& o : table)
        if (o.letter == c && c != 0) return {&o, request::work};
    for (const auto& o : common_options)
        if (o.letter == c && c != 0) return {nullptr, o.what};
    throw usage_error(std::string("-") + c + " is no option of this program");
}

template <class Settings>
[[nodiscard]] found<Settings> by_name(std::span<const option<Settings>> table, std::string_view name) {
    for (const auto& o : table)
        if (o.name == name) return {&o, request::work};
    for (const auto& o : common_options)
        if (o.name == name) return {nullptr, o.what};
    throw usage_error("--" + std::string(name) + " is no option of this program");
}

/// The value that stands apart from its option, in the next argument.
template <class Settings>
[[nodiscard]] std::string_view next_value(const option<Settings>& o, std::span<char* const> args, std::size_t& i) {
    const bool optional = o.argument.starts_with('[') && o.argument.ends_with(']');
    if (optional && (i + 1 == args.size() || args[i + 1][0] == '-')) return {};
    if (++i == args.size()) throw usage_error(spelled(o) + " wants a value: " + std::string(o.argument));
    return args[i];
}

template <class Settings>
void operand(Settings& s, std::string_view word) {
    if constexpr (requires { s.operand(word); }) s.operand(word);
    else throw usage_error("\"" + std::string(word) + "\" stands alone; every argument of this program has an option");
}

}  // namespace detail

/// Takes `argv` apart by the table, as getopt does: -n10, -n 10, -46, --count 10, --count=10. Words without an option go to
/// `s.operand(word)`, if there is one. Ends at the first that asks for something else than work. Throws usage_error.
template <class Settings>
request parse_options(std::span<const option<Settings>> table, std::span<char* const> args, Settings& s) {
    for (std::size_t i = 0; i < args.size(); ++i) {
        const std::string_view a = args[i];
        if (a == "--") {
            while (++i < args.size()) detail::operand(s, args[i]);
            break;
        }
        if (a.size() < 2 || a[0] != '-') {
            detail::operand(s, a);
        } else if (a[1] == '-') {
            const std::size_t eq = a.find('=');
            const std::string_view name = a.substr(2, eq == a.npos ? eq : eq - 2);
            const auto o = detail::by_name(table, name);
            if ((!o.own || o.own->argument.empty()) && eq != a.npos) throw usage_error("--" + std::string(name) + " takes no value");
            if (!o.own) return o.common;
            if (o.own->argument.empty()) detail::apply(*o.own, s, {});
            else detail::apply(*o.own, s, eq != a.npos ? a.substr(eq + 1) : detail::next_value(*o.own, args, i));
        } else {
            for (std::size_t at = 1; at < a.size(); ++at) {
                const auto o = detail::by_letter(table, a[at]);
                if (!o.own) return o.common;
                if (o.own->argument.empty()) {
                    detail::apply(*o.own, s, {});
                    continue;
                }
                detail::apply(*o.own, s, at + 1 < a.size() ? a.substr(at + 1) : detail::next_value(*o.own, args, i));
                break;
            }
        }
    }
    return request::work;
}

/// An option as people see it.
struct option_row {
    char letter;
    std::string_view name, argument, help, values;
};
/// The table's options, and those common to all tools.
template <class Settings>
[[nodiscard]] std::vector<option_row> rows_of(std::span<const option<Settings>> table) {
    std::vector<option_row> rows;
    for (const auto& o : table) rows.push_back({o.letter, o.name, o.argument, o.help, o.values});
    for (const auto& c : common_options) {
        const auto same = [&c](const auto& o) { return o.name == c.name; };
        if (c.help.empty() || std::any_of(table.begin(), table.end(), same)) continue;
        const auto taken = [&c](const auto& o) { return o.letter == c.letter; };
        rows.push_back({std::any_of(table.begin(), table.end(), taken) ? '\0' : c.letter, c.name, {}, c.help, {}});
    }
    return rows;
}

/// The table as people read it, wrapped to 100 columns.
template <class Settings>
[[nodiscard]] std::string help_text(std::span<const option<Settings>> table) {
    constexpr std::size_t column = 30;
    constexpr std::size_t width = 100;
    std::string out;
    for (const auto& o : rows_of(table)) {
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
