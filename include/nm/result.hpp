// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace nm {

/// Why something cold (open, attach, parse, map) did not work. The code is errno's, for programs; the text is a
/// sentence for people: what was wrong and what to do about it.
struct error {
    std::error_code code;
    std::string text;
};

/// What every cold operation returns. Always tl::expected, whatever -std says: an alias that changed with the language
/// mode would change the ABI between two translation units of one program.
template <class T>
using result = tl::expected<T, error>;

/// `return fail(ENODEV, "...");`
[[nodiscard]] inline tl::unexpected<error> fail(int errno_value, std::string text) {
    return tl::unexpected<error>(error{std::error_code(errno_value, std::generic_category()), std::move(text)});
}

/// Passes an error on from a result of another type.
template <class T>
[[nodiscard]] tl::unexpected<error> forward_error(result<T>& r) {
    return tl::unexpected<error>(std::move(r.error()));
}

}  // namespace nm
