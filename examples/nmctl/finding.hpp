// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nmctl {

enum class level { ok, better, cannot };

[[nodiscard]] constexpr std::string_view name_of(level l) noexcept {
    return l == level::ok ? "ok" : l == level::better ? "could be better" : "cannot";
}

/// One thing that was looked at, and what mends it: one command, or one sentence.
struct finding {
    level is;
    std::string topic, what, remedy;
};

class findings {
public:
    /// What is added from here on is about this.
    void about(std::string topic) { topic_ = std::move(topic); }
    void ok(std::string what) { all_.push_back({level::ok, topic_, std::move(what), {}}); }
    void better(std::string what, std::string remedy) { all_.push_back({level::better, topic_, std::move(what), std::move(remedy)}); }
    void cannot(std::string what, std::string remedy) { all_.push_back({level::cannot, topic_, std::move(what), std::move(remedy)}); }

    [[nodiscard]] auto begin() const { return all_.begin(); }
    [[nodiscard]] auto end() const { return all_.end(); }
    [[nodiscard]] std::size_t cannots() const {
        std::size_t n = 0;
        for (const auto& f : all_) n += f.is == level::cannot ? 1U : 0U;
        return n;
    }

private:
    std::string topic_;
    std::vector<finding> all_;
};

}  // namespace nmctl
