// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <fmt/format.h>
#include <string>
#include <string_view>

#include "common/utf8.hpp"

namespace tool {

/// Writes one JSON object, member by member, on one line.
class json {
public:
    json& add(std::string_view name, std::string_view value) { return raw(name, quoted(value)); }
    json& add(std::string_view name, const char* value) { return raw(name, quoted(value)); }
    template <std::same_as<bool> B>
    json& add(std::string_view name, B value) {
        return raw(name, value ? "true" : "false");
    }
    template <std::integral I>
    requires(!std::same_as<I, bool>) json& add(std::string_view name, I value) {
        return raw(name, fmt::format("{}", value));
    }
    json& add(std::string_view name, double value) {
        return raw(name, std::isfinite(value) ? fmt::format("{:.6g}", value) : "null");
    }
    json& add(std::string_view name, const json& object) { return raw(name, object.text()); }
    /// `value` is JSON already: an array, null.
    json& raw(std::string_view name, std::string_view value) {
        if (!members_.empty()) members_ += ", ";
        members_ += quoted(name) + ": ";
        members_ += value;
        return *this;
    }
    /// The members of another one, behind those that are here.
    json& add_all(const json& other) {
        if (!members_.empty() && !other.members_.empty()) members_ += ", ";
        members_ += other.members_;
        return *this;
    }
    [[nodiscard]] std::string text() const { return "{" + members_ + "}"; }

    [[nodiscard]] static std::string quoted(std::string_view s) {
        std::string out = "\"";
        for (std::size_t i = 0; i < s.size();) {
            const std::size_t n = utf8_bytes(s.substr(i));
            const char c = s[i];
            if (n == 0) out += replacement;
            else if (c == '"' || c == '\\') out += '\\', out += c;
            else if (is_control(s.substr(i, n))) out += fmt::format("\\u{:04x}", static_cast<unsigned char>(s[i + n - 1]));  // C1's second byte is its number
            else out += s.substr(i, n);
            i += n == 0 ? 1 : n;
        }
        return out + '"';
    }

private:
    std::string members_;
};

}  // namespace tool
