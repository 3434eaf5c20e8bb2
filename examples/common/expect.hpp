// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <fmt/format.h>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/failure.hpp"
#include "common/json.hpp"
#include "common/values.hpp"

namespace tool {

/// What the caller expects of a run; exit status 3 when it was not so.
struct expectations {
    /// `0`, `100`: frames; `0.1%`: of those sent.
    struct loss_limit {
        double value = 0;
        bool percent = false;
    };
    /// `>1M`, `>=1M`, `<2k`, `<=2k`; a number alone means at least.
    struct rate_limit {
        bool less = false, or_equal = true;
        double value = 0;
    };
    std::optional<loss_limit> loss;
    std::optional<rate_limit> pps;

    void set_loss(std::string_view text) {
        loss_limit l;
        l.percent = !text.empty() && text.back() == '%';
        l.value = parse_si(text.substr(0, text.size() - (l.percent ? 1 : 0)));
        loss = l;
    }
    void set_pps(std::string_view text) {
        rate_limit r;
        if (!text.empty() && (text[0] == '>' || text[0] == '<')) {
            r.less = text[0] == '<';
            r.or_equal = text.size() > 1 && text[1] == '=';
            text.remove_prefix(r.or_equal ? 2 : 1);
        }
        r.value = parse_si(text);
        pps = r;
    }

    [[nodiscard]] bool any() const noexcept { return loss || pps; }
};

struct outcome {
    std::string what;
    bool met;
};

/// Holds a run against what was expected of it.
[[nodiscard]] inline std::vector<outcome> judge(const expectations& e, std::uint64_t sent, std::uint64_t lost,
                                                double pps) {
    std::vector<outcome> out;
    if (e.loss) {
        const double share = sent != 0 ? 100.0 * static_cast<double>(lost) / static_cast<double>(sent) : 0;
        const double found = e.loss->percent ? share : static_cast<double>(lost);
        out.push_back({fmt::format("loss at most {}{}: {} of {} frames lost", e.loss->value,
                                   e.loss->percent ? "%" : " frames", lost, sent),
                       found <= e.loss->value});
    }
    if (e.pps) {
        const auto& r = *e.pps;
        const bool met =
            r.less ? (r.or_equal ? pps <= r.value : pps < r.value) : (r.or_equal ? pps >= r.value : pps > r.value);
        out.push_back({fmt::format("packets per second {}{} {:.0f}: {:.0f}", r.less ? "<" : ">", r.or_equal ? "=" : "",
                                   r.value, pps),
                       met});
    }
    return out;
}

[[nodiscard]] inline int exit_of(const std::vector<outcome>& list) noexcept {
    return std::all_of(list.begin(), list.end(), [](const outcome& o) { return o.met; }) ? exit_ok : exit_expectation;
}
[[nodiscard]] inline std::string to_text(const std::vector<outcome>& list) {
    std::string out;
    for (const auto& o : list) out += fmt::format("Expected {}: {}\n", o.what, o.met ? "met" : "NOT MET");
    return out;
}
[[nodiscard]] inline std::string to_json(const std::vector<outcome>& list) {
    std::string out = "[";
    for (const auto& o : list)
        out += (out.size() > 1 ? ", " : "") + json().add("expectation", o.what).add("met", o.met).text();
    return out + "]";
}

}  // namespace tool
